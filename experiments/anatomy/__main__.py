"""Parts of a batch's cost beside their truth: `python -m experiments.anatomy`.

Writes reports/loader-anatomy.md. Nothing else may run on the machine meanwhile. Takes about six
minutes on two cores.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy import stats
from torch.utils.data import DataLoader

import profkit
from profkit.probe.loader_anatomy import LoaderAnatomy
from profkit.workloads.mnist import open_dataset
from profkit.workloads.mnist_files import locate

from ..measured import head_of_here, save, spread

REPORT = Path("reports", "loader-anatomy.md")
SETTINGS = ((0, "fork"), *((n, how) for n in (1, 2, 4) for how in ("fork", "spawn")))
BAR = 0.05
COST_BAR = 0.02
BATCHES = 20
BLOCKS = 60
MODES = ("unobserved", "not inside", "observed")
COMPARED = (
    ("looking inside over not", "observed", "not inside"),
    ("all that observes over nothing", "observed", "unobserved"),
)
"""In words, what is held against what."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One loop: by part the truth and what profkit says, in ns a batch."""

    workers: int
    method: str
    truth: dict[str, float]
    found: dict[str, float]
    batch_ns: float

    def error(self, part: str) -> float:
        """As a share of the batch's cost."""
        return (self.found.get(part, 0.0) - self.truth[part]) / self.batch_ns


def observe(workers: int, method: str, scratch: Path) -> Outcome:
    """Run the loop under profkit."""
    run, written = scratch / f"run-{workers}-{method}", scratch / "truth.json"
    order = [sys.executable, "-m", "profkit", "run", "--quiet", "--out", str(run), "-m"]
    order += ["experiments.anatomy.loop", "--truth", str(written), "--workers", str(workers)]
    subprocess.run([*order, "--method", method], check=True, timeout=180)
    told = json.loads(written.read_text())
    (shown,) = json.loads(profkit.render_report(profkit.report(run), "json"))["runs"]
    producer = shown["loader"]["producer"]
    found = {one["name"] or one["kind"]: one["batch_ns"] for one in producer["parts"]}
    # Names that profkit gives: nested ones have those that they are called from.
    found = {name.rpartition(" > ")[2].removeprefix("cv2 "): ns for name, ns in found.items()}
    found["decode"] = found.pop("imread", 0.0)
    truth = {name: ns / told["batches"] for name, ns in told["parts"].items()}
    return Outcome(workers, method, truth, found, producer["batch_ns"])


def cost(workers: int, scratch: Path) -> dict[str, list[float]]:
    """By comparison, for each round: the time of a batch of MNIST over another one."""
    dataset = open_dataset(locate(None, allow_download=True), train=True)
    order = random.Random(workers)
    ratios: dict[str, list[float]] = {words: [] for words, _, _ in COMPARED}
    for block in range(BLOCKS + 1):
        taken: dict[str, float] = {}
        for mode in order.sample(MODES, len(MODES)):
            with _observed(mode, scratch / f"cost-{workers}-{block}-{mode}"):
                taken[mode] = _batch_s(dataset, workers)
        if block:  # the first round finds cold caches
            for words, new, base in COMPARED:
                ratios[words].append(taken[new] / taken[base])
    return ratios


@contextmanager
def _observed(mode: str, run: Path) -> Iterator[None]:
    with ExitStack() as stack:
        if mode == "not inside":
            # There is no such setting: it is always looked into loaders.
            stack.enter_context(patch.object(LoaderAnatomy, "install", lambda self, hooks: None))
        if mode != "unobserved":
            stack.enter_context(profkit.observe(run, samples=False))
        yield


def _batch_s(dataset: Any, workers: int) -> float:
    """How long a producer takes for a batch: nobody does anything else with it."""
    batches = iter(DataLoader(dataset, batch_size=512, num_workers=workers))
    for _ in range(1 + 2 * workers):
        next(batches)
    began = time.perf_counter()
    for _ in range(BATCHES):
        next(batches)
    return (time.perf_counter() - began) / BATCHES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = []
        for workers, method in SETTINGS:
            outcomes.append(observe(workers, method, Path(scratch)))
            print(f"{workers} {method}: {_worst(outcomes[-1]):.1%} worst", flush=True)
        costs = {workers: cost(workers, Path(scratch)) for workers in (0, 1)}
    save(given.output, _page(outcomes, costs))


def _worst(outcome: Outcome) -> float:
    return max(abs(outcome.error(part)) for part in _parts(outcome))


def _parts(outcome: Outcome) -> list[str]:
    return [part for part, ns in outcome.truth.items() if ns]


def _page(outcomes: list[Outcome], costs: dict[int, dict[str, list[float]]]) -> list[str]:
    worst = [_worst(one) for one in outcomes]
    parts = _parts(outcomes[-1])
    lines = [
        *head_of_here("What a batch costs its producer", "python -m experiments.anatomy"),
        "## Injected parts",
        "",
        "A loop whose parts note what they really took, in every process; errors of what profkit "
        "says, in % of the batch's cost. One run each.",
        "",
        f"| workers | start | batch, ms | {' | '.join(parts)} | worst |",
        f"|---:|---|---:|{'---:|' * len(parts)}---:|",
    ]
    for one in outcomes:
        cells = [f"{100 * one.error(part):+.1f}" if part in _parts(one) else "–" for part in parts]
        start = one.method if one.workers else "–"
        lines.append(
            f"| {one.workers} | {start} | {one.batch_ns / 1e6:.1f} | {' | '.join(cells)} | "
            f"{100 * _worst(one):.1f} |"
        )
    lines += [
        "",
        f"Worst of all: {100 * max(worst):.1f} %; the target is {100 * BAR:.0f} % at most.",
        "",
        "## What looking costs",
        "",
        "MNIST through torchvision, batch 512, nothing done with the batches: the time of a batch, "
        f"in blocks of {BATCHES}, in rounds whose order is drawn. Without looking inside profkit "
        "marks stages, and its wrapper around `Tensor.to` is called for each sample.",
        "",
        "| workers | compared | rounds | ratio, median (quartiles) | mean (95 %) |",
        "|---:|---|---:|---:|---:|",
    ]
    for workers, compared in costs.items():
        for words, ratios in compared.items():
            logs = np.log(ratios)
            low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
            lines.append(
                f"| {workers} | {words} | {len(ratios)} | {spread(ratios, 4)} | "
                f"{np.exp(logs.mean()):.3f} ({np.exp(low):.3f} to {np.exp(high):.3f}) |"
            )
    lines += ["", f"The target for looking inside is {1 + COST_BAR:.2f} at most.", ""]
    return lines


if __name__ == "__main__":
    main()
