"""How often the interval of a measured share holds the true one: loops whose costs are drawn.

`python -m experiments.gate.coverage` writes reports/share-coverage.md, in some seven minutes.
"""

import argparse
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scipy import stats

import profkit

from ..measured import head_of_here, save, spread

REPORT = Path("reports", "share-coverage.md")
TITLE, COMMAND = "Intervals of shares", "python -m experiments.gate.coverage"
LOOPS_OF_A_KIND = 70
STEPS, MANY_STEPS = 100, 400
Draw = Callable[[random.Random], Iterator[float]]


def steady(draw: random.Random) -> Iterator[float]:
    """Always the same."""
    while True:
        yield 0.6e-3


def restless(draw: random.Random) -> Iterator[float]:
    """Exponential."""
    while True:
        yield draw.expovariate(1 / 0.6e-3)


def rare(draw: random.Random) -> Iterator[float]:
    """Short, but one in twenty is long."""
    while True:
        yield 6e-3 if draw.random() < 0.05 else 0.3e-3


def small(draw: random.Random) -> Iterator[float]:
    """A few parts in a hundred, exponential."""
    while True:
        yield draw.expovariate(1 / 0.06e-3)


CORRELATION, LOG_SD = 0.8, 0.4


def lasting(draw: random.Random) -> Iterator[float]:
    """What is slow stays slow for a while: the logarithm is an autoregressive series."""
    level = draw.gauss(0, LOG_SD)
    while True:
        yield 0.6e-3 * math.exp(level - LOG_SD**2 / 2)
        level = CORRELATION * level + draw.gauss(0, LOG_SD * math.sqrt(1 - CORRELATION**2))


KINDS: dict[str, tuple[Draw, float]] = {
    "steady": (steady, 0.6e-3),
    "exponential": (restless, 0.6e-3),
    "one in twenty is long": (rare, 0.05 * 6e-3 + 0.95 * 0.3e-3),
    "a small share": (small, 0.06e-3),
    "slow for a while": (lasting, 0.6e-3),
}
"""How a batch's cost is drawn, and its mean, in s."""
REST_S = 1.4e-3
"""Mean of what the step takes besides; drawn evenly from half of it to one and a half."""


@dataclass(slots=True)
class InjectedLoop:
    """A loop that spins for what is drawn, and keeps its own account of what that took.

    Attributes:
        waits, rests: what was drawn and what it took, in s.
    """

    draw: random.Random
    cost: Iterator[float]
    waits: list[tuple[float, float]] = field(default_factory=list)
    steps: list[tuple[float, float]] = field(default_factory=list)

    def __iter__(self) -> "InjectedLoop":
        return self

    def __next__(self) -> int:
        cost = next(self.cost)
        began = time.perf_counter()
        _spin_until(began + cost)
        ended = time.perf_counter()
        self.waits.append((cost, ended - began))
        return 0

    def train(self, batch: int) -> None:
        """Spin for the rest of the step."""
        cost = self.draw.uniform(0.5 * REST_S, 1.5 * REST_S)
        began = time.perf_counter()
        _spin_until(began + cost)
        self.steps.append((cost, time.perf_counter() - began))

    def truth(self, mean_wait_s: float) -> float:
        """Share of the data wait that infinitely many steps would have.

        What spinning takes beyond what was drawn is counted by its median, so that a moment in
        which another program had the core is no part of it.
        """
        wait = mean_wait_s + _median_excess(self.waits)
        return wait / (wait + REST_S + _median_excess(self.steps))


def _spin_until(end: float) -> None:
    while time.perf_counter() < end:
        pass


def _median_excess(pairs: list[tuple[float, float]]) -> float:
    return sorted(took - drawn for drawn, took in pairs)[len(pairs) // 2]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One loop: its true share, and the interval that profkit gave."""

    truth: float
    low: float
    high: float

    @property
    def covered(self) -> bool:
        return self.low <= self.truth <= self.high


def measure(kind: str, seed: int, steps: int) -> Outcome:
    """Measure one loop of a kind."""
    cost, mean_s = KINDS[kind]
    draw = random.Random(f"{kind} {seed}")
    loop = InjectedLoop(draw, cost(draw))
    share = profkit.measure(loop.train, loop, steps=steps).share("dataloader")
    return Outcome(loop.truth(mean_s), share.low, share.high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    parser.add_argument("--loops", type=int, default=LOOPS_OF_A_KIND, help="of each kind")
    given = parser.parse_args()
    rows = [
        'How often the 95 % interval of `measure(...).share("dataloader")` holds the true share.',
        "",
        "Loops that spin: for each batch as long as is drawn (five kinds), and 0.7 to 2.1 ms for "
        "the rest of the step. The truth is the mean of what is drawn from, plus what a spin takes "
        "beyond it by the loop's own clock. One process; kinds take turns.",
        "",
        "| steps | cost of a batch | loops | true share | width of the interval | covered "
        "| 95 % interval of that |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for steps in (STEPS, MANY_STEPS):
        found: dict[str, list[Outcome]] = {kind: [] for kind in KINDS}
        for seed in range(given.loops):
            for kind in KINDS:
                found[kind].append(measure(kind, seed, steps))
            print(f"{steps} steps: {seed + 1} of {given.loops}", flush=True)
        found["all"] = [one for outcomes in found.values() for one in outcomes]
        rows += [_row(steps, kind, outcomes) for kind, outcomes in found.items()]
    save(given.output, [*head_of_here(TITLE, COMMAND), *rows, ""])


def _row(steps: int, kind: str, outcomes: list[Outcome]) -> str:
    count, covered = len(outcomes), sum(one.covered for one in outcomes)
    interval = stats.binomtest(covered, count).proportion_ci(0.95)
    return (
        f"| {steps} | {kind} | {count} | {spread([one.truth for one in outcomes])} "
        f"| {spread([one.high - one.low for one in outcomes], 2)} "
        f"| {covered} ({100 * covered / count:.1f} %) "
        f"| {100 * interval.low:.1f} to {100 * interval.high:.1f} % |"
    )


if __name__ == "__main__":
    main()
