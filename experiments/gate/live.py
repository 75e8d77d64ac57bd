"""Checks of programs whose truth is known: one `profkit check` each, its findings kept on disk."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .neighbours import neighbours

PROGRAM = "experiments.gate.program"
LIMIT = "5%"
MAX_TIME_S = 60
TRUTH_PAIRS = 80
OUTCOMES = {0: "within", 1: "regression", 3: "inconclusive"}
LOOPS = {
    "FastMLP, in memory": ("--batch-size", "512"),
    "FastMLP, DataLoader": ("--batch-size", "64", "--source", "dataloader"),
    "CNN, in memory": ("--workload", "cnn", "--batch-size", "16"),
}
"""Real programs: MNIST, one intra-op thread each, as the gate runs them."""


@dataclass(frozen=True, slots=True)
class Case:
    """One check.

    Attributes:
        loop: key of `LOOPS`.
        slower: factor that the new version's steps are made longer by; see `true_ratios`.
        busy: neighbours that spin in bursts meanwhile.
        number: tells cases of one kind apart.
        limit: of `--max-regression`.
        rare: only each so manieth step is slower.
    """

    loop: str
    slower: float
    busy: int
    number: int
    limit: str = LIMIT
    rare: int = 1

    @property
    def key(self) -> str:
        """Fit for the name of a directory."""
        loop = list(LOOPS).index(self.loop)
        kind = "live" if self.limit == LIMIT else "record"
        rare = f"-rare{self.rare}" if self.rare > 1 else ""
        return f"{kind}-{loop}-{self.slower:g}{rare}-busy{self.busy}-{self.number}"


def true_ratios(loop: str, slower: float, root: Path) -> list[float]:
    """By how much a loop's steps really are longer, pair by pair, measured now or before."""
    kept = root / f"truth-{list(LOOPS).index(loop)}-{slower:g}.json"
    if not kept.is_file():
        words = ["-m", PROGRAM, *LOOPS[loop], "--slower", str(slower), "--pairs", str(TRUTH_PAIRS)]
        done = subprocess.run([sys.executable, *words], check=True, stdout=subprocess.PIPE)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(done.stdout)
    found: list[float] = json.loads(kept.read_text())
    return found


def run_case(case: Case, root: Path) -> dict[str, Any]:
    """The findings of a check, run now unless it was before."""
    out = root / case.key
    kept = out / "case.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    arguments = LOOPS[case.loop]
    base = [PROGRAM, *arguments]
    command = [
        *(sys.executable, "-m", "profkit", "check", "--base", shlex.join(["-m", *base])),
        *("--max-regression", case.limit, "--max-time", f"{MAX_TIME_S}s"),
        *("--out", str(out), "--force"),
        *("-m", "--", *base, "--slower", str(case.slower), "--rare", str(case.rare)),
    ]
    with neighbours(case.busy):
        began = time.monotonic()
        done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True)
        wall_s = time.monotonic() - began
    if done.returncode not in OUTCOMES:
        raise SystemExit(f"{case.key}: exit code {done.returncode}\n{done.stderr}")
    found = json.loads((out / "check.json").read_text())
    found["case"] = {"outcome": OUTCOMES[done.returncode], "wall_s": wall_s}
    # In one piece: an interrupted run goes on with what is there.
    whole = kept.with_suffix(".part")
    whole.write_text(json.dumps(found))
    whole.replace(kept)
    return found


def cases(
    counts: Sequence[tuple[float, int, int]], limit: str = LIMIT, rare: int = 1
) -> list[Case]:
    """Cases in turn over the loops and kinds, so that the hours of the day meet all alike.

    Args:
        counts: for each kind its ratio, its neighbours, and how many.
        limit, rare: see `Case`.
    """
    loops = list(LOOPS)
    found = []
    for number in range(max(count for *_, count in counts)):
        for slower, busy, count in counts:
            if number < count:
                found.append(Case(loops[number % len(loops)], slower, busy, number, limit, rare))
    return found
