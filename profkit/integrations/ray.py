"""Observes the workers of a Ray Train run, each as a rank of one launch."""

import functools
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError, RunError
from ..probe.command import shown_command
from ..probe.launcher import digest
from ..probe.telling import tell
from ..schema.run import COMPLETED, RankFacts
from ..store.names import MANIFEST
from ..store.run_directory import (
    check_directory,
    create_rank_directory,
    rank_directory,
    read_manifest,
)
from ..watching import active

if TYPE_CHECKING:
    from ..observation import Observation

Loop = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Launch:
    """What all workers of a run are told by the process that starts it.

    Attributes:
        root: where each of them makes a directory of its own.
        token: of this launch and no other.
        command: the starting process's, fit for a report.
        warmup: training steps that are left out of the times.
    """

    root: Path
    token: str
    command: str
    warmup: int


def observe_workers(train_loop: Loop, out: str | Path, *, warmup: int = 10) -> Loop:
    """A train loop for Ray's `TorchTrainer` that does what the given one does, observed.

    Every worker writes the run directory `out/rank-<r>/`, or `out/rank-<r>-restart-<k>/` after
    Ray has started the workers anew; `profkit report out` reads them together. No worker waits
    for another. Where a worker cannot record, it says so on its stderr, and trains.

    Wrap the loop anew for each run:

        TorchTrainer(observe_workers(train, "/shared/runs/first"), ...).fit()

    Args:
        train_loop: takes a configuration or nothing; needs no change.
        out: absolute or relative to this process's working directory, on a file system that all
            workers share; made by them.
        warmup: training steps to leave out of the times.

    Raises:
        InputError: a negative `warmup`.
        OutputError: `out` holds something already.
    """
    if warmup < 0:
        raise InputError(f"warmup={warmup}: give 0 or more steps")
    root = Path(out).absolute()
    check_directory(root)
    launch = _Launch(root, secrets.token_hex(8), shown_command(sys.argv), warmup)

    # Ray looks at the signature, which is that of the loop.
    @functools.wraps(train_loop)
    def observed(*configuration: Any, **named: Any) -> Any:
        observation = _begin(launch)
        try:
            result = train_loop(*configuration, **named)
        except BaseException as error:
            _end(observation, f"stopped by {type(error).__name__}")
            raise
        _end(observation, COMPLETED)
        return result

    return observed


def _begin(launch: _Launch) -> "Observation | None":
    """The observation of this worker, whose thread this is; None where there can be none."""
    try:
        import ray.train
        import ray.train.torch  # before the hooks: it has a loader of its own

        from ..observation import Observation, Order

        if active() is not None:
            raise InputError("this process is observed already")
        context = ray.train.get_context()
        job = ray.get_runtime_context().get_job_id()
        rank = _claim(
            launch.root,
            context.get_world_rank(),
            context.get_world_size(),
            digest(f"{launch.token}\n{context.get_experiment_name()}\n{job}"),
        )
        order = Order(
            path=rank_directory(launch.root, rank),
            name=f"rank {rank.rank}",
            command=launch.command,
            started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            warmup=launch.warmup,
            rank=rank,
        )
        observation = Observation(order, tell)
        observation.begin()
    except Exception as error:  # not worth a training run
        tell(f"nothing is recorded: {error}; the training goes on")
        return None
    return observation


def _end(observation: "Observation | None", words: str) -> None:
    if observation is None:
        return
    try:
        observation.end(words)
    except Exception as error:
        tell(f"the end was not recorded: {error}")


def _claim(root: Path, rank: int, world_size: int, launch: str) -> RankFacts:
    """Make this worker's directory: the first one, or the next after a restart by Ray.

    Raises:
        OutputError: `root` holds something else, or cannot be written.
    """
    facts = RankFacts(rank, world_size, launch)
    while True:
        try:
            create_rank_directory(root, facts)
        except OutputError:
            if not _is_of(rank_directory(root, facts), launch):
                raise
            facts = replace(facts, restart=facts.restart + 1)
        else:
            return facts


def _is_of(path: Path, launch: str) -> bool:
    """Whether a run directory was written by an earlier start of the same launch."""
    try:
        rank = read_manifest(path / MANIFEST).rank
    except RunError:
        return False
    return rank is not None and rank.launch == launch
