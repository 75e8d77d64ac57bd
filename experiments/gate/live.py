"""Checks of programs whose truth is known: one `profkit check` each, its findings kept on disk."""

import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .neighbours import neighbours

PROGRAM = "experiments.gate.program"
LIMIT = "5%"
MAX_TIME_S = 60
TRUTH_PROCESSES, TRUTH_PAIRS, TRUTH_STEPS = 3, 40, 20
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
    """By how much a loop's steps really are longer, measured now or before, without profkit.

    Two processes take turns in blocks of random order and clock their steps themselves; the ratio
    of each pair of blocks.
    """
    kept = root / f"truth-{list(LOOPS).index(loop)}-{slower:g}.json"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(_measure_ratios(loop, slower)))
    found: list[float] = json.loads(kept.read_text())
    return found


def _measure_ratios(loop: str, slower: float) -> list[float]:
    found: list[float] = []
    words = [sys.executable, "-m", PROGRAM, *LOOPS[loop], "--take-orders", "--slower"]
    for seed in range(TRUTH_PROCESSES):
        order, factors = random.Random(seed), [1.0, slower]
        with ExitStack() as stack:
            workers = {
                factor: stack.enter_context(_piped([*words, str(factor)])) for factor in factors
            }
            for pair in range(TRUTH_PAIRS + 2):
                order.shuffle(factors)
                mean_s = {factor: _ordered(workers[factor]) for factor in factors}
                if pair >= 2:  # what is before is warm-up
                    found.append(mean_s[slower] / mean_s[1.0])
    return found


def _piped(words: list[str]) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)


def _ordered(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdin is not None
    assert worker.stdout is not None
    print(TRUTH_STEPS, file=worker.stdin, flush=True)
    return float(worker.stdout.readline())


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
