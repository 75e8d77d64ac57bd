"""What others say of these trainings, and what this ladder aims at, against what was measured."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..measured import mean_interval, spread
from .findings import RungFindings

MOST_SEEDS = 10
"""An aim is about the mean of this many seeds, at least."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a claim.

    Attributes:
        here: the number that was measured.
        holds: whether it says the same; None where it cannot tell.
    """

    here: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence that can be checked.

    Attributes:
        words: what is said.
        rungs: names of those that it is about.
        judge: given these rungs' findings, in that order.
    """

    words: str
    rungs: tuple[str, ...]
    judge: Callable[..., Judged]


def table(claims: Sequence[Claim], found: Sequence[RungFindings]) -> list[str]:
    """Each claim beside its number here, as Markdown; nothing where no rung of any was measured."""
    by_name = {one.rung.name: one for one in found}
    lines = []
    for claim in claims:
        if any(name not in by_name for name in claim.rungs):
            continue
        judged = claim.judge(*(by_name[name] for name in claim.rungs))
        holds = {True: "yes", False: "**no**", None: "cannot be told"}[judged.holds]
        lines.append(f"| {claim.words} | {judged.here} | {holds} |")
    if not lines:
        return []
    return [
        "## What is said, and what holds here",
        "",
        "| said | measured here | holds |",
        "|---|---|---|",
        *lines,
        "",
    ]


def _seeds(one: RungFindings) -> str:
    return "one seed" if len(one.results) == 1 else f"{len(one.results)} seeds"


def accuracy_claim(rung: str, percent: float) -> Claim:
    """That a rung reaches an accuracy: it holds where the mean's 95 % interval does."""

    def judge(one: RungFindings) -> Judged:
        mean, low, high = (100 * value for value in mean_interval(one.accuracies))
        if math.isnan(low):
            return Judged(f"{mean:.2f} % with one seed", None)
        return Judged(
            f"{mean:.2f} % ({low:.2f} to {high:.2f}), {_seeds(one)}",
            low <= percent <= high,
        )

    return Claim(f"{rung}: {percent:g} % in the mean", (rung,), judge)


def epochs_claim(rung: str, fewest: int, most: int) -> Claim:
    """That a rung stops after so many epochs."""

    def judge(one: RungFindings) -> Judged:
        low, high = min(one.epochs), max(one.epochs)
        counted = str(low) if low == high else f"{low} to {high}"
        return Judged(f"{counted}, {_seeds(one)}", fewest <= low and high <= most)

    return Claim(f"{rung}: stops after {fewest} to {most} epochs", (rung,), judge)


def within_claim(words: str, rung: str, most_s: float, aim: float) -> Claim:
    """That an accuracy is reached within a time, in every seed."""

    def judge(one: RungFindings) -> Judged:
        times = one.until(aim)
        if len(times) < len(one.results):
            return Judged(f"{len(times)} of {len(one.results)} seeds reach it", False)
        return Judged(f"{spread(times)} s, {_seeds(one)}", max(times) <= most_s)

    return Claim(words, (rung,), judge)


def whole_claim(words: str, rung: str, most_s: float) -> Claim:
    """That a whole training takes no longer than a time, in every seed."""

    def judge(one: RungFindings) -> Judged:
        return Judged(f"{spread(one.seconds)} s, {_seeds(one)}", max(one.seconds) <= most_s)

    return Claim(words, (rung,), judge)


def faster_claim(words: str, slow: str, fast: str, times: float) -> Claim:
    """That one whole training is so many times as fast as another, by medians."""

    def judge(before: RungFindings, after: RungFindings) -> Judged:
        ratio = float(np.median(before.seconds) / np.median(after.seconds))
        return Judged(f"{ratio:.3g}×", ratio >= times)

    return Claim(words, (slow, fast), judge)


def loading_claim(rung: str) -> Claim:
    """That data loading is what a rung's step mostly waits for."""

    def judge(one: RungFindings) -> Judged:
        wait = 100 * (one.step.stage_shares["dataloader"] or 0.0)
        return Judged(f"{wait:.1f} % of the step is data wait; {one.step.verdict}", wait >= 50)

    return Claim(f"{rung}: data loading holds it up", (rung,), judge)


def aim_claim(rung: str, aim: float, most_s: float, note: str = "aim") -> Claim:
    """What this ladder aims at: an accuracy in the mean of ten seeds, in so many seconds."""

    def judge(one: RungFindings) -> Judged:
        mean = float(np.mean(one.accuracies))
        count = len(one.results)
        seconds = float(np.median(one.seconds))
        met = mean >= aim and seconds <= most_s
        return Judged(
            f"{100 * mean:.2f} %, {spread(one.seconds)} s, {_seeds(one)}",
            met if count >= MOST_SEEDS else None,
        )

    words = f"{rung} ({note}): {100 * aim:g} % in the mean of {MOST_SEEDS} seeds, in {most_s:g} s"
    return Claim(words, (rung,), judge)


def dearer_claim() -> Claim:
    """That four times the batch makes an iteration four times as dear."""

    def judge(small: RungFindings, large: RungFindings) -> Judged:
        faster = small.epoch_s / large.epoch_s
        fewer = small.results[0].training.steps / large.results[0].training.steps
        return Judged(
            f"an iteration is {fewer / faster:.2f} times as dear, and there are {fewer:.2f} times "
            f"fewer of them: an epoch is {faster:.2f} times as fast; {_seeds(large)}",
            faster > 1,
        )

    return Claim("batches of 128 make an epoch faster than of 32", ("simple", "simple_128"), judge)


def _published() -> tuple[Claim, ...]:
    return (
        faster_claim("the ladder is 226 times as fast as its first rung", "initial", "tuned", 226),
        *(loading_claim(rung) for rung in ("initial", "early_stopping", "smaller_net")),
        accuracy_claim("initial", 99.185),
        accuracy_claim("early_stopping", 99.07),
        epochs_claim("early_stopping", 3, 5),
        epochs_claim("smaller_net", 2, 3),
        accuracy_claim("smaller_net_2", 99.1),
        accuracy_claim("tuned", 99.04),
    )


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "ladder": _published(),
    "beyond": (aim_claim("ablated", 0.99, 2.5), aim_claim("ablated_fp32", 0.99, 2.5)),
    "fastmlp": (
        within_claim("97 % in under two minutes (on four cores)", "fastmlp", 120, 0.97),
        aim_claim("one_epoch", 0.97, 0.3, "FastMLP's own network, beside the aim"),
        aim_claim("mlp_ends_early", 0.97, 0.3),
    ),
    "minute": tuple(
        whole_claim(f"{rung}: five epochs in under a minute (on four cores)", rung, 60)
        for rung in ("minute_adam", "minute_sgd", "minute_rmsprop", "minute_augmented")
    ),
    "forty": (
        within_claim("plain: 98 % is reached", "plain", float("inf"), 0.98),
        within_claim("all_tricks: 98 % is reached", "all_tricks", float("inf"), 0.98),
    ),
    "simple": (dearer_claim(),),
}
"""By ladder."""
