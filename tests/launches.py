"""Made-up launches: ranks that wait for each other in backward, with a known slow one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from conftest import make_manifest
from profkit.schema.ranks import RankRecord, RanksRecord
from profkit.schema.run import RankFacts
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag, StepTable
from profkit.store.rank_summary import summarize, write_summary
from profkit.store.run_directory import create_directory, write_manifest
from profkit.store.streams import RunWriter

WORK_NS = {
    Stage.DATALOADER: 2_000_000,
    Stage.FORWARD: 3_000_000,
    Stage.BACKWARD: 4_000_000,
    Stage.OPTIMIZER: 800_000,
    Stage.OTHER: 200_000,
}
COMMUNICATION_NS = 500_000
BACKWARD = STAGES.index(Stage.BACKWARD)

Slow = Mapping[int, Mapping[Stage, float]]
"""Rank → stage → how many times as long it takes."""


def make_launch(
    world: int,
    slow: Slow | None = None,
    *,
    steps: int = 60,
    noise: float = 0.01,
    watched: bool = True,
    waits_in: Stage = Stage.BACKWARD,
    seed: int = 0,
) -> list[StepTable]:
    """The steps of each rank; whoever comes first to the collective waits for the last.

    Args:
        watched: whether the wait is recorded beside the stages, which hold it anyway.
        waits_in: the stage in which it lies.
    """
    draw = np.random.default_rng(seed)
    work = np.zeros((world, steps, len(STAGES)), np.int64)
    for stage, duration in WORK_NS.items():
        column = STAGES.index(stage)
        work[..., column] = duration * np.exp(draw.normal(0, noise, (world, steps)))
        for rank, stages in (slow or {}).items():
            work[rank, :, column] *= round(100 * stages.get(stage, 1))
            work[rank, :, column] //= 100
    after = STAGES.index(Stage.OPTIMIZER)
    # What follows the collective delays the next step's; the first one has nothing before it.
    carried = np.concatenate([np.zeros((world, 1), np.int64), work[:, :-1, after]], axis=1)
    arrived = work.sum(axis=2) - work[..., after] + carried
    wait = arrived.max(axis=0) - arrived + COMMUNICATION_NS
    work[..., STAGES.index(waits_in)] += wait
    tables = []
    for rank in range(world):
        ends = 10**9 * (rank + 1) + np.cumsum(work[rank].sum(axis=1))
        marked = np.ones((steps, len(STAGES)), np.bool_)
        marked[:, STAGES.index(Stage.TRANSFER)] = False
        flags = np.zeros(steps, np.int64)
        flags[0] = int(Flag.BLOCK_START)
        tables.append(
            StepTable(
                ends - work[rank].sum(axis=1),
                ends,
                work[rank],
                marked,
                wait[rank] if watched else None,
                np.full(steps, 64, np.int64),
                flags,
            )
        )
    return tables


def gather(
    tables: Sequence[StepTable], *, ended: Mapping[int, str | None] | None = None, world: int = 0
) -> RanksRecord:
    """The launch as it would be read from disk."""
    ranks = []
    for rank, steps in enumerate(tables):
        manifest = make_manifest(
            rank=RankFacts(rank, world or len(tables), "one"),
            ended=(ended or {}).get(rank, "completed"),
        )
        ranks.append(RankRecord(rank, 0, f"rank-{rank}", manifest, summarize(steps)))
    return RanksRecord(tuple(ranks))


def write_launch(place: Path, tables: Sequence[StepTable], *, summaries: bool = True) -> Path:
    """The launch on disk."""
    for one, steps in zip(gather(tables).ranks, tables, strict=True):
        directory = place / one.directory
        create_directory(directory)
        write_manifest(directory, one.manifest)
        writer = RunWriter(directory)
        for first in range(0, len(steps), 25):
            writer.append(steps.select(np.arange(first, min(first + 25, len(steps)))))
        writer.close()
        if summaries:
            write_summary(directory, steps)
    return place


def shifted(steps: StepTable, by_ns: int) -> StepTable:
    """The same steps on a clock that began at another time."""
    return replace(steps, start_ns=steps.start_ns + by_ns, end_ns=steps.end_ns + by_ns)
