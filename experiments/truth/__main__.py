"""Injected costs beside what profkit says: `python -m experiments.truth`.

Writes reports/ground-truth.md. Nothing else may run on the machine meanwhile. Takes about eight
minutes on two cores; `--quick` runs a few loops, `--only TEXT` those with a text in their name.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from profkit import render_report, report

from ..measured import head, save
from . import settings
from .agreement import Outcome, Truth, TruthError, compare, model_ns, read_truth
from .page import write_page
from .settings import QUICK, SETTINGS, Setting

REPORT = Path("reports", "ground-truth.md")
WARMUP = 10
REFERENCE_S = 2.0
LIMIT_S = 120


def observe(setting: Setting, scratch: Path, seconds: float) -> Outcome:
    """Run one loop under profkit, and a reference where it needs one."""
    run, written = scratch / "run", scratch / "truth.json"
    under = ["profkit", "run", "--quiet", "--warmup", str(WARMUP), "--out", str(run), "-m"]
    truth = _run([*under, setting.program, *setting.arguments], written, seconds)
    found: dict[str, Any] = json.loads(render_report(report(run), "json"))
    alone = _reference(setting, truth, scratch) if setting.has_reference else None
    return compare(setting, run, found, truth, WARMUP, alone)


def _reference(setting: Setting, truth: Truth, scratch: Path) -> float:
    """What the model takes while the loop waits as long, but nothing else wants the cores."""
    wait_ms = float(truth.stage_ns[WARMUP:, 0].mean()) / 1e6
    others = [cost for cost in setting.costs if not cost.startswith("data:")]
    costs = [part for cost in (*others, f"data:sleep:{wait_ms}") for part in ("--cost", cost)]
    command = [setting.program, *costs, "--threads", str(setting.threads), *setting.options]
    return model_ns(_run(command, scratch / "reference.json", REFERENCE_S), WARMUP)


def _run(command: list[str], written: Path, seconds: float) -> Truth:
    order = [
        sys.executable,
        "-W",
        "ignore::UserWarning",
        "-m",
        *command,
        "--truth",
        str(written),
        "--seconds",
        str(seconds),
    ]
    subprocess.run(order, check=True, timeout=LIMIT_S)
    return read_truth(written)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="loops with this text in their name")
    parser.add_argument("--quick", action="store_true", help="a few loops")
    parser.add_argument("--list", action="store_true", help="print the loops' names")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each loop")
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    given = parser.parse_args()
    chosen = [one for one in SETTINGS if not given.quick or one.name in QUICK]
    if given.only:
        chosen = [one for one in chosen if given.only in one.name]
    if given.list or not chosen:
        print(*(one.name for one in chosen), sep="\n")
        return
    outcomes: list[Outcome] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, setting in enumerate(chosen):
            place = Path(scratch, str(number))
            place.mkdir()
            try:
                outcome = observe(setting, place, given.seconds)
            except (TruthError, subprocess.SubprocessError) as error:
                failures.append(f"{setting.name}: {error}")
                print(failures[-1], file=sys.stderr)
                continue
            outcomes.append(outcome)
            print(
                f"{number + 1}/{len(chosen)} {setting.name}: worst error "
                f"{100 * outcome.worst:.2f} %, {', '.join(outcome.kinds)}"
                + ("" if outcome.agrees else f" (not {sorted(outcome.expected.first)})"),
                flush=True,
            )
        if not outcomes:
            raise SystemExit("no loop could be compared")
        seen = chosen.index(outcomes[0].setting)
        title = "What profkit says, beside what is so"
        lines = head(title, "python -m experiments.truth", Path(scratch, str(seen), "run"))
    rule = (settings.__doc__ or "").partition("\n\n")[2]
    lines += [f"- **not compared**: {failure}" for failure in failures]
    lines += write_page(outcomes, rule)
    save(given.output, lines)


if __name__ == "__main__":
    main()
