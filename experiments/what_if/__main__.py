"""Predictions beside what the change gives: `python -m experiments.what_if`.

Writes reports/what-if.md. Each program is recorded once as it is, with its probes; predictions
come from that alone. Then it runs with each change, in rounds of new processes in random order.
Nothing else may run on the machine meanwhile. Takes about 25 minutes on two cores; what was
measured is kept below --kept, and gone on with.
"""

import argparse
import json
import math
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import profkit

from ..measured import head, save
from .cases import CASES, Asked, Case, Options

REPORT = Path("reports", "what-if.md")
ROUNDS = 3
RECORDED_TIMES = 2
"""As many steps as the runs that measure, so that its two halves are alike."""
MEDIAN_BAR, P90_BAR, HELD_BAR, HALVES_BAR, SWEEP_BAR = 0.05, 0.12, 0.9, 0.03, 0.05


@dataclass(frozen=True, slots=True)
class Pair:
    """A change: predicted and measured."""

    case: Case
    asked: Asked
    predicted: dict[str, Any]
    speedups: list[float]

    @property
    def measured(self) -> float:
        """Geometric mean over the rounds."""
        return math.exp(float(np.mean(np.log(self.speedups))))

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        return float(self.predicted["speedup"]) / self.measured - 1

    @property
    def is_told(self) -> bool:
        return self.predicted["speedup"] is not None

    @property
    def is_held(self) -> bool:
        """Whether the interval holds what was measured."""
        low, high = self.predicted["speedup_interval"]
        return bool(low <= self.measured <= high)

    @property
    def is_probed(self) -> bool:
        """Whether a probe has run with this very change."""
        return self.asked.options in self.case.probes


class Runs:
    """Runs of programs, kept by what they are of.

    Args:
        directory: to keep them in.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def make(self, case: Case, options: Options, turn: str) -> Path:
        """Run a program observed, unless that was done before; the run directory."""
        name = "_".join((case.name, turn, *options)).replace(" ", "-").replace(",", "")
        done = self._directory / name
        if not done.is_dir():
            partial = self._directory / "unfinished"
            shutil.rmtree(partial, ignore_errors=True)
            order = [sys.executable, "-m", "profkit", "run", "--quiet", "--stop", "--steps"]
            steps = RECORDED_TIMES * case.steps if turn == "recorded" else case.steps
            order += [str(steps), "--out", str(partial), "-m", "experiments.what_if.program"]
            subprocess.run([*order, *case.options, *options], check=True, timeout=180)
            partial.rename(done)
        return done


def step_ns(run: Path) -> float:
    """Mean step of a run."""
    report = json.loads(profkit.render_report(profkit.report(run), "json"))
    return float(report["runs"][0]["steps"]["step_time_ns"]["mean"])


def examine(case: Case, runs: Runs) -> tuple[list[Pair], dict[str, Any]]:
    """Predict and measure all that is asked about a program."""
    recorded = runs.make(case, (), "recorded")
    probes = [runs.make(case, options, "probe") for options in case.probes]
    questions = [asked.question for asked in case.asked]
    found = profkit.what_if(recorded, questions, probes)
    predicted = json.loads(profkit.render_predictions(found, "json"))
    base: list[float] = []
    changed: list[list[float]] = [[] for _ in case.asked]
    for turn in range(ROUNDS):
        order = list(range(-1, len(case.asked)))
        random.Random(turn).shuffle(order)
        for i in order:
            options = () if i < 0 else case.asked[i].options
            taken = step_ns(runs.make(case, options, str(turn)))
            if i < 0:
                base.append(taken)
            else:
                changed[i].append(taken)
        print(f"{case.name}: round {turn + 1} of {ROUNDS}", flush=True)
    pairs = []
    for asked, answer, taken_ns in zip(case.asked, predicted["answers"], changed, strict=True):
        times = asked.question.amount if asked.question.change is profkit.Change.BATCH else 1
        ratios = [times * was / now for was, now in zip(base, taken_ns, strict=True)]
        pairs.append(Pair(case, asked, answer, ratios))
    return pairs, predicted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    runs = Runs(given.kept)
    examined = [examine(case, runs) for case in CASES]
    run = runs.make(CASES[0], (), "recorded")
    command = "python -m experiments.what_if --kept DIR"
    pairs = [pair for found, _ in examined for pair in found if pair.asked.counts]
    lines = head("What-if: predicted and measured", command, run)
    lines += _summary(pairs, [predicted for _, predicted in examined])
    for found, predicted in examined:
        lines += _section(found, predicted)
    save(given.output, lines)


def _summary(pairs: Sequence[Pair], predicted: Sequence[dict[str, Any]]) -> list[str]:
    off = [one["held_out_error"] for one in predicted]
    halves = sum(one is not None and abs(one) <= HALVES_BAR for one in off)
    wholes = sum(abs(one["replayed_ns"] / one["step_ns"] - 1) <= HALVES_BAR for one in predicted)
    told = [pair for pair in pairs if pair.is_told]
    lines = [
        f"{len(pairs)} changes to {len(CASES)} programs; a prediction comes from one recording of "
        "the program as it is, and from its probes where it has any. A speedup is measured in "
        f"{ROUNDS} rounds of new processes, the order drawn in each; the geometric mean counts.",
        "",
        "| predictions | n | median error | 90th percentile | interval holds it |",
        "|---|---:|---:|---:|---:|",
    ]
    groups = {
        "all that were made": told,
        "without a probe of that very change": [one for one in told if not one.is_probed],
        "with one": [one for one in told if one.is_probed],
    }
    for words, group in groups.items():
        errors = [abs(one.error) for one in group]
        held = sum(one.is_held for one in group)
        median, p90 = np.quantile(errors, (0.5, 0.9))
        lines.append(
            f"| {words} | {len(group)} | {100 * median:.1f} % | {100 * p90:.1f} % | "
            f"{held} ({100 * held / len(group):.0f} %) |"
        )
    sure = [one for one in told if one.predicted["speedup_interval"][0] > 1]
    slower = sum(one.measured < 1 for one in sure)
    bound = stats.binomtest(slower, len(sure)).proportion_ci(0.95, "exact").high
    lines += [
        "",
        f"The targets: {100 * MEDIAN_BAR:.0f} % and {100 * P90_BAR:.0f} % at most, and "
        f"{100 * HELD_BAR:.0f} % of the intervals at least.",
        "",
        "The commit above is that of the recordings; what was predicted from them, by this file's.",
        "",
        "The model's constants (`MODEL_ERROR` and its neighbours in profkit/analyze/what_if.py, "
        "and those of changes.py) were chosen on an earlier series of these same programs, which "
        "is not in this table.",
        "",
        f"- No estimate was made of {len(pairs) - len(told)}: they are named below.",
        f"- Promised to be faster, by the interval's lower end: {len(sure)}; measured slower: "
        f"{slower} (at most {100 * bound:.0f} % with 97.5 % confidence).",
        f"- One half of a recording replayed is within {100 * HALVES_BAR:.0f} % of the other half "
        f"as measured in {halves} of {len(CASES)} programs; the whole replayed, in {wholes}.",
        "",
    ]
    return lines


def _section(pairs: Sequence[Pair], predicted: dict[str, Any]) -> list[str]:
    case = pairs[0].case
    off = predicted["held_out_error"]
    whole = predicted["replayed_ns"] / predicted["step_ns"] - 1
    lines = [
        f"## {case.name}",
        "",
        f"`{' '.join(case.options)}`; recorded: {predicted['step_ns'] / 1e6:.2f} ms a step; "
        f"probes: {', '.join(' '.join(one[-2:]) for one in case.probes) or 'none'}; replayed "
        f"unchanged: {100 * whole:+.1f} %; one half of the recording replayed against the other: "
        f"{'–' if off is None else f'{100 * off:+.1f} %'} (target {100 * HALVES_BAR:.0f} %).",
        "",
        "| change | predicted (95 %) | measured (rounds) | error | |",
        "|---|---:|---:|---:|---|",
    ]
    for pair in pairs:
        measured = f"{pair.measured:.3g} ({min(pair.speedups):.3g} to {max(pair.speedups):.3g})"
        if not pair.is_told:
            lines.append(f"| {pair.asked.words} | – | {measured} | – | {_reason(pair)} |")
            continue
        low, high = pair.predicted["speedup_interval"]
        note = "" if pair.is_held else "outside"
        note += "" if pair.asked.counts else " (not counted)"
        note += " (probed)" if pair.is_probed else ""
        lines.append(
            f"| {pair.asked.words} | {pair.predicted['speedup']:.3g} ({low:.3g} to {high:.3g}) | "
            f"{measured} | {100 * pair.error:+.1f} % | {note.strip()} |"
        )
    return [*lines, "", *_sweep(pairs, predicted["workers"])]


def _reason(pair: Pair) -> str:
    bound = pair.predicted["bound"]
    most = "" if bound is None else f"at most {bound:.3g}; "
    return most + str(pair.predicted["reason"]).replace("|", "/")


def _sweep(pairs: Sequence[Pair], recommended: int | None) -> list[str]:
    """Which number of workers is recommended, and which one is best."""
    counts = {
        round(pair.asked.question.amount): pair.measured
        for pair in pairs
        if pair.asked.question.change is profkit.Change.WORKERS
    }
    if recommended is None or not counts:
        return []
    best = max(1.0, *counts.values())
    given = counts.get(recommended, 1.0)  # as it is
    return [
        f"Workers recommended: {recommended}, {given:.3g}; the best of the sweep gives {best:.3g}: "
        f"{100 * (1 - given / best):.1f} % are left (target {100 * SWEEP_BAR:.0f} %).",
        "",
    ]


if __name__ == "__main__":
    main()
