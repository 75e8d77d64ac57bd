"""Runs a user's program observed: what `profkit run` does."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import psutil

from ..errors import InputError
from ..probe.command import shown_command
from ..probe.environment import read_environment
from ..probe.import_watch import when_imported
from ..probe.launcher import read_rank
from ..probe.liveness import process_facts
from ..schema.fix import FixOrder
from ..schema.run import SCHEMA_VERSION, RankFacts, RunManifest
from ..store.names import MANIFEST
from ..store.run_directory import (
    create_directory,
    create_rank_directory,
    rank_directory,
    write_manifest,
)
from .as_main import run_as_main
from .ending import Ending
from .signals import note_death
from .target import Target, check_target

if TYPE_CHECKING:
    from ..observation import Observation


@dataclass(frozen=True, slots=True)
class RunOrder:
    """A program to run observed.

    Attributes:
        target: the program.
        out: run directory; below `runs/`, named after program and time, unless given.
        warmup: training steps that are left out of the times.
        steps: how many to time; the program then goes on unobserved. None for all.
        overwrite: replace what profkit wrote to `out` before.
        stop: end the program after those steps.
        quiet: say nothing unless something fails.
        fixes: what to apply to the program; None for nothing at all.
    """

    target: Target
    out: Path | None
    warmup: int
    steps: int | None
    overwrite: bool
    stop: bool = False
    quiet: bool = False
    fixes: FixOrder | None = None


def run_observed(
    order: RunOrder,
    say: Callable[[str], None],
    summarize: Callable[[Path], None],
) -> NoReturn:
    """Run a program as `python` would, observed by hooks; the process ends with it.

    Torch is hooked when the program imports it: nothing heavy is imported before.

    Args:
        order: what to run.
        say: takes a line for the user; what goes wrong is said on stderr in any case.
        summarize: called with the run directory when steps were recorded in it and the program
            has ended; under a launcher in the first rank only.

    Raises:
        InputError: there is no such program, or no such count of steps.
        OutputError: the run directory cannot be written, or holds something.
    """
    check_target(order.target)
    if order.warmup < 0 or (order.steps is not None and order.steps < 1):
        raise InputError(
            f"warmup={order.warmup}, steps={order.steps}: give at least 1 step, after 0 or more"
        )
    rank = read_rank(os.environ)
    now = datetime.now(timezone.utc)
    # The program may change the working directory.
    root = Path(os.path.abspath(order.out or _default_out(order.target, rank)))
    if rank is None:
        path = root
        create_directory(path, force=order.overwrite)
    else:
        path = rank_directory(root, rank)
        create_rank_directory(root, rank, force=order.overwrite)
    if (rank is None or rank.rank == 0) and not order.quiet:
        say(f"recording to {os.path.relpath(root)}")
    # From here on a report can be made, and says so where the process was killed at once.
    command = shown_command(_command(order.target))
    started_at = now.isoformat(timespec="seconds")
    name = order.target.stem
    first = _first_manifest(name, command, started_at, rank)
    write_manifest(path, first)
    note = note_death(path)
    seen: list[Observation] = []
    failures: list[Exception] = []

    def observe(_: ModuleType) -> None:
        from ..observation import Observation, Order

        observation = Observation(
            Order(
                path=path,
                name=name,
                command=command,
                started_at=started_at,
                warmup=order.warmup,
                steps=order.steps,
                rank=rank,
                environment=first.environment,
                samples=order.fixes is None,  # a look of `profkit tune` needs each step
            ),
            say,
            enough=stop if order.stop else None,
        )
        seen.append(observation)
        if order.fixes is not None:
            from ..probe.fixes import AppliedFixes
            from ..probe.replacements import Replacements

            AppliedFixes(order.fixes).install(Replacements())  # below what observes
        observation.begin()

    def stop() -> None:
        seen[0].end(f"stopped by profkit after {order.steps} steps")
        raise StopProgram(0)

    def fail(error: Exception) -> None:
        failures.append(error)
        say(f"nothing is recorded: {error}; the program goes on")

    def finish(ending: Ending) -> None:
        note.forget()
        if not seen:
            _remove_empty_run(path)
            if not failures and not order.quiet:
                say("torch was never imported: there is nothing to report")
            return
        seen[0].end(ending.words)
        if (rank is None or rank.rank == 0) and not order.quiet:
            summarize(root)

    when_imported("torch", observe, fail)
    run_as_main(order.target, at_end=finish)


class StopProgram(SystemExit):
    """Ends a program from within its training loop; most programs do not catch it."""


def _command(target: Target) -> list[str]:
    named = ["-m", target.name] if target.kind == "module" else [target.name]
    return [*named, *target.arguments]


def _default_out(target: Target, rank: RankFacts | None) -> Path:
    """Below `runs/`; all ranks of a machine give the same name without asking each other."""
    moment = datetime.now()
    if rank is not None:
        if rank.world_size > int(os.environ.get("LOCAL_WORLD_SIZE", rank.world_size)):
            raise InputError(
                "ranks on several machines cannot agree on a directory: give them one with --out"
            )
        parent = psutil.Process().parent()
        if parent is not None:
            moment = datetime.fromtimestamp(parent.create_time())
    path = Path("runs", f"{target.stem}-{moment:%Y%m%d-%H%M%S}")
    if rank is None and path.exists():
        path = path.with_name(f"{path.name}-{os.getpid()}")
    return path


def _first_manifest(
    name: str, command: str, started_at: str, rank: RankFacts | None
) -> RunManifest:
    """What is known of a run before its program begins."""
    return RunManifest(
        schema=SCHEMA_VERSION,
        name=name,
        command=command,
        started_at=started_at,
        ended=None,
        device=None,
        environment=read_environment(ask_for_devices=False),
        rank=rank,
        process=process_facts(),
    )


def _remove_empty_run(path: Path) -> None:
    with suppress(OSError):
        (path / MANIFEST).unlink()
        path.rmdir()
