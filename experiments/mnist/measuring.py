"""Runs trainings, each in a process of its own, and keeps what they took."""

import hashlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import click
import msgspec

from .ladder import Rung
from .results import Key, Result, Results, key_of
from .train import Training

LONG_S = 150.0
"""A training that takes longer is measured with one seed."""
PROFILED_EPOCHS = 1


class TrainingFailedError(click.ClickException):
    """A training's process ended with an error."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where trainings run.

    Attributes:
        hardware: processor, memory and device.
        versions: of what they run with, without that of this repository.
        commit: of this repository.
        device: `cpu` or `cuda`.
    """

    hardware: str
    versions: str
    commit: str
    device: str

    @property
    def place(self) -> str:
        """What a training must have in common with another to stand beside it."""
        return f"{self.hardware}; {self.device}"


def machine_of(described: Mapping[str, str], device: str) -> Machine:
    """The machine that `profkit.describe_machine` describes."""
    parts = described["versions"].split(", ")
    commit = next((one for one in parts if one.startswith("commit ")), "commit unknown")
    rest = ", ".join(one for one in parts if not re.match("(commit|profkit) ", one))
    return Machine(described["hardware"], rest, commit.removeprefix("commit "), device)


@dataclass(frozen=True, slots=True)
class Order:
    """What to measure.

    Attributes:
        rungs: in order.
        seeds: how many trainings of each; see `LONG_S`.
        is_isolated: changes without their riders.
        options: of the program, such as where the data is.
    """

    rungs: Sequence[Rung]
    seeds: int
    is_isolated: bool = False
    options: Sequence[str] = field(default_factory=tuple)


def measure(
    order: Order, machine: Machine, results: Results, tell: Callable[[str], None]
) -> dict[str, list[Result]]:
    """Train each rung with each seed, those left out that are kept already.

    Seeds take turns over the rungs, so that the machine's drift meets all of them.

    Args:
        order: what.
        machine: where.
        results: kept ones, and where new ones go.
        tell: told what happens.

    Returns:
        For each rung the results of its seeds.
    """
    found: dict[str, list[Result]] = {rung.name: [] for rung in order.rungs}
    for seed in range(order.seeds):
        for rung in order.rungs:
            known = found[rung.name]
            if known and known[0].training.seconds > LONG_S:
                continue
            key = key_on(rung, seed, machine, is_isolated=order.is_isolated)
            result = results.of(key, is_timed=True)
            if result is None:
                training = trained(rung, seed, machine.device, order)
                result = Result(key, machine.commit, True, training)
                results.add(result)
                tell(
                    f"{rung.name}, seed {seed}: {training.seconds:.3g} s, "
                    f"{100 * training.accuracy:.2f} %"
                )
            known.append(result)
    return found


def key_on(rung: Rung, seed: int, machine: Machine, *, is_isolated: bool) -> Key:
    """The key of a training that is to be done on a machine."""
    return key_of(rung, seed, machine.place, machine.versions, is_isolated=is_isolated)


def trained(rung: Rung, seed: int, device: str, order: Order) -> Training:
    """One training in a process of its own.

    Raises:
        TrainingFailedError: it failed; its own words stand above.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "training.json")
        ended = subprocess.run(
            [sys.executable, "-m", *_program(rung, seed, device, order), "--out", str(out)],
            stdout=subprocess.DEVNULL,
        )
        if ended.returncode:
            raise TrainingFailedError(
                f"{rung.name} with seed {seed} failed: see above; what ended is kept"
            )
        return msgspec.json.decode(out.read_bytes(), type=Training)


def profiled(rung: Rung, machine: Machine, order: Order, kept: Path) -> Path:
    """The run directory of one epoch of a rung, recorded by profkit; recorded once.

    Args:
        rung: what to record.
        machine: where.
        order: with which options.
        kept: where run directories go.

    Raises:
        TrainingFailedError: it failed.
    """
    key = msgspec.json.encode(key_on(rung, 0, machine, is_isolated=False))
    run = kept / f"{rung.name}-{hashlib.sha256(key).hexdigest()[:8]}"
    done = run.with_suffix(".done")
    if not done.exists():
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "profkit", "run", "--force", "--out", str(run), "-m"),
                *_program(rung, 0, machine.device, replace(order, is_isolated=False)),
                *("--epochs", str(PROFILED_EPOCHS)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if ended.returncode:
            raise TrainingFailedError(
                f"recording {rung.name} failed: {ended.stderr.strip()[-500:]}"
            )
        done.touch()
    return run


def _program(rung: Rung, seed: int, device: str, order: Order) -> list[str]:
    alone = ["--isolate"] if order.is_isolated else []
    return [
        *("experiments.mnist.program", rung.name, *alone, "--seed", str(seed)),
        *("--device", device, *order.options),
    ]
