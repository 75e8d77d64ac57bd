"""What tuning finds: `python -m experiments.tune`.

Writes reports/tune.md. Nothing else may run on the machine meanwhile. Takes about 15 minutes on two
cores; results are kept below --kept, and gone on with.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from ..measured import head_of_here, save

REPORT = Path("reports", "tune.md")


@dataclass(frozen=True, slots=True)
class Case:
    """A program to tune.

    Attributes:
        name: for the report.
        program: of `experiments.tune.program`.
        budget_s: for all of it.
        target: the least that the proven gain must be, by its interval's lower end; None where
            there is no such target.
    """

    name: str
    program: str
    budget_s: int
    target: float | None = None


CASES = (
    Case("FastMLP on MNIST from a DataLoader, no workers", "fastmlp", 120, 6.0),
    Case("FastMLP on MNIST from a DataLoader, 2 workers", "fastmlp-2-workers", 180),
    Case("CNN of rung 2 on MNIST from a DataLoader", "cnn", 180),
    Case("CNN of the ladder's last rung, data in memory", "last-rung", 180, 2.0),
    Case("samples that wait for files", "files", 180),
    Case("samples that depend on chance", "drawn", 180),
)


def tune(case: Case, kept: Path) -> dict[str, Any]:
    """What tuning says of a program, in a process of its own, unless that was done before."""
    out = kept / case.program
    if not (out / "tune.json").is_file():
        order = [sys.executable, "-m", "profkit", "tune", "--budget", f"{case.budget_s}s"]
        order += ["--out", str(out), "-m", "experiments.tune.program", case.program]
        subprocess.run(order, check=True, timeout=2 * case.budget_s + 60)
    found: dict[str, Any] = json.loads((out / "tune.json").read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    given = parser.parse_args()
    found = [tune(case, given.kept) for case in CASES]
    lines = head_of_here("Tune: found, predicted and proven", "python -m experiments.tune")
    lines += _summary(found)
    for case, one in zip(CASES, found, strict=True):
        lines += _section(case, one)
    save(given.output, lines)


def _summary(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "Each program is tuned once, by `profkit tune`, which chooses what to try. Speedups are "
        "measured in interleaved blocks against the program as it is. What was kept of an earlier "
        "run of this experiment names its own commit below.",
        "",
        "| program | found and proven | speedup (95 %) | target | spent, s |",
        "|---|---|---:|---:|---:|",
    ]
    for case, one in zip(CASES, found, strict=True):
        best = next((trial for trial in one["trials"] if trial["proven"]), None)
        words = "nothing" if best is None else best["name"]
        target = "–" if case.target is None else f"lower end ≥ {case.target:g}"
        lines.append(
            f"| {case.name} | {words} | {_interval(best)} | {target} | {one['wall_s']:.0f} of "
            f"{case.budget_s} |"
        )
    sure = [
        trial
        for one in found
        for trial in one["trials"]
        if _low(trial["predicted"]) > 1 and trial["speedup"] is not None
    ]
    slower = [trial for trial in sure if trial["speedup_interval"][1] < 1]
    bound = stats.binomtest(len(slower), len(sure)).proportion_ci(0.95, "exact").high
    lines += [
        "",
        f"Promised to be faster before they were tried, by the interval's lower end: {len(sure)}; "
        f"then measured slower: {len(slower)} (at most {100 * bound:.0f} % with 97.5 % "
        "confidence).",
        "",
    ]
    return lines


def _low(predicted: dict[str, Any] | None) -> float:
    interval = None if predicted is None else predicted["speedup_interval"]
    return 0.0 if interval is None or interval[0] is None else float(interval[0])


def _interval(trial: dict[str, Any] | None) -> str:
    if trial is None or trial["speedup"] is None:
        return "–"
    low, high = trial["speedup_interval"]
    return f"{trial['speedup']:.3g} ({low:.3g} to {high:.3g})"


def _section(case: Case, found: dict[str, Any]) -> list[str]:
    lines = [
        f"## {case.name}",
        "",
        f"{found['step_ns'] / 1e6:.3g} ms a step as it is; started {found['runs']} times; commit "
        f"{found['environment']['commit']}.",
        "",
        "| fix | predicted (95 %) | measured (95 %) | outcome | |",
        "|---|---:|---:|---|---|",
    ]
    for trial in found["trials"]:
        answer = trial["predicted"]
        promise = "–"
        if answer is not None and answer["speedup"] is not None:
            promise = _interval(answer)
        elif answer is not None and answer["bound"] is not None:
            promise = f"at most {answer['bound']:.3g}"
        outcome = trial["outcome"] + (", proven" if trial["proven"] else "")
        reason = str(trial["reason"] or "").replace("|", "/")
        lines.append(f"| {trial['name']} | {promise} | {_interval(trial)} | {outcome} | {reason} |")
    return [*lines, "", *(f"- {gap}" for gap in found["gaps"]), ""]


if __name__ == "__main__":
    main()
