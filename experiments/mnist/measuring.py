"""Runs trainings, each in a process of its own, and keeps what they took."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import click
import msgspec

from .bench import Bench, tell
from .ladder import Rung
from .results import Result, key_of, recording_name
from .task import Task
from .train import Training

LONG_S = 150.0
"""A training that takes longer is measured with one seed."""
PROFILED_EPOCHS = 1


class TrainingFailedError(click.ClickException):
    """A training's process ended with an error."""


def measure(
    rungs: Sequence[Rung], seeds: int, isolated: Sequence[Rung], series: str, bench: Bench
) -> tuple[dict[str, list[Result]], dict[str, list[Result]]]:
    """Time each rung with each seed, those left out that this series has already.

    Every seed is a round in which each rung has its turn, in an order that is drawn, so that the
    machine's drift meets all of them.

    Args:
        rungs: which.
        seeds: how many trainings of each; see `LONG_S`.
        isolated: those of which the change without its riders has its turn as well.
        series: what they are timed for.
        bench: where.

    Returns:
        For each rung the results of its seeds; the same of those without their riders.
    """
    whole: dict[str, list[Result]] = {rung.name: [] for rung in rungs}
    alone: dict[str, list[Result]] = {rung.name: [] for rung in isolated}
    for seed in range(seeds):
        tasks = [Task(rung, seed) for rung in rungs]
        tasks += [Task(rung, seed, is_isolated=True) for rung in isolated]
        random.Random(seed).shuffle(tasks)
        for task in tasks:
            known = (alone if task.is_isolated else whole)[task.rung.name]
            if known and known[0].training.seconds > LONG_S:
                continue
            known.append(timed(task, series, bench))
    return whole, alone


def timed(task: Task, series: str, bench: Bench) -> Result:
    """A training alone on this machine, or what is kept of it from the same series."""
    known = bench.results.of(key_of(task, bench.machine), series)
    if known is not None:
        return known
    training = trained(task, bench.machine.device, bench.options, (bench.results.lock,))
    result = keep(task, training, series, bench)
    tell(f"{task.words}: {training.seconds:.3g} s, {100 * training.accuracy:.2f} %")
    return result


def keep(task: Task, training: Training, series: str | None, bench: Bench) -> Result:
    """Have a training's result on disk."""
    day = f"{datetime.now(timezone.utc):%Y-%m-%d}"
    key = key_of(task, bench.machine)
    result = Result(key, task.rung.name, series, bench.machine.commit, day, training)
    bench.results.add(result)
    return result


def trained(task: Task, device: str, options: Sequence[str], held: Sequence[int] = ()) -> Training:
    """One training in a process of its own.

    Args:
        task: which.
        device: `cpu` or `cuda`.
        options: of the program.
        held: open files that the process holds as well.

    Raises:
        TrainingFailedError: it failed; with its last words.
    """
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "training.json")
        _run(
            [sys.executable, "-m", *_program(task, device, options), "--out", str(out)],
            held,
            f"{task.words} failed",
        )
        return msgspec.json.decode(out.read_bytes(), type=Training)


def profiled(rung: Rung, bench: Bench) -> Path:
    """The run directory of one epoch of a rung, recorded by profkit; recorded once.

    Raises:
        TrainingFailedError: it failed; with its last words.
    """
    task = Task(rung, 0)
    run = bench.results.directory / recording_name(task, bench.machine)
    done = run.with_suffix(".done")
    if not done.exists():
        tell(f"{rung.name}: recording an epoch")
        _run(
            [
                *(sys.executable, "-m", "profkit", "run", "--force", "--out", str(run), "-m"),
                *_program(task, bench.machine.device, bench.options),
                *("--epochs", str(PROFILED_EPOCHS)),
            ],
            (bench.results.lock,),
            f"recording {rung.name} failed",
        )
        done.touch()
    return run


def _program(task: Task, device: str, options: Sequence[str]) -> list[str]:
    return ["experiments.mnist.program", *task.arguments, "--device", device, *options]


def _run(command: Sequence[str], held: Sequence[int], failure: str) -> None:
    ended = subprocess.run(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=held
    )
    if ended.returncode:
        words = ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"]
        raise TrainingFailedError(f"{failure}: {words[-1][-500:]}; what ended is kept")
