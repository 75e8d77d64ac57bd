"""What each batch of a run took, from its making to the end of its step: ground for replays."""

from dataclasses import dataclass

import numpy as np

from ..schema.loader import (
    UNKNOWN,
    Consumed,
    Int64Array,
    LoaderRecord,
    PartKind,
    Produced,
    select,
)
from ..schema.loader_findings import PartCost
from ..schema.record import RunRecord
from ..schema.stage import STAGES, Stage
from ..schema.steps import NOT_TIMED, StepTable
from .breakdown import active_rows
from .loader_costs import producer_cost
from .loader_model import Batches, Times

MOST_BATCHES = 100_000
"""Of a run, the last ones: they say enough."""
UNPACKING_QUANTILE = 0.1
"""Of what receiving a batch takes: the part that is unpacking it."""
_HANDING = (PartKind.SERIALISE, PartKind.TRANSFER)
_DATA = STAGES.index(Stage.DATALOADER)


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A run, batch by batch, without the steps that do not count.

    Attributes:
        batches: n of them.
        steps_ns: (n,) what each step took.
        stages_ns: (n, 6) the parts of `batches.using`, in the order of `STAGES`; 0 for data wait.
        workers: None where the loop was fed by workers of which nothing was recorded.
        prefetch: 0 without workers.
        pins: whether a thread receives and pins batches.
        threads: intra-op ones; None where that is not known.
        busy_share: of the time of making a batch, what its maker wants a core for; 1 where that
            is not known.
        parts: of what a batch costs its producer; empty where that was not looked into.
        block: (n,) which stretch without a break each is in.
    """

    batches: Batches
    steps_ns: Times
    stages_ns: Times
    workers: int | None
    prefetch: int
    pins: bool
    threads: int | None
    busy_share: float
    parts: tuple[PartCost, ...]
    block: Int64Array

    def __len__(self) -> int:
        return int(self.steps_ns.size)

    def share(self, name: str, *, handing: bool) -> float | None:
        """Part that a named one holds of making a batch, or of handing it over.

        Returns:
            None if it has none of that name.
        """
        parts = [part for part in self.parts if (part.kind in _HANDING) == handing]
        whole = sum(part.batch_ns for part in parts)
        held = [part.batch_ns for part in parts if name in (part.name, part.kind.value)]
        return sum(held) / whole if held and whole > 0 else None


def course_of(run: RunRecord, loader: LoaderRecord | None) -> Course:
    """The course of a run.

    Args:
        run: its steps.
        loader: see `training_loader`; None where nothing is known of it.
    """
    facts = run.manifest.loader
    threads = run.manifest.environment.intra_op_threads
    if loader is not None:
        found = _by_batch(run.steps, loader, threads)
        if found is not None and len(found):
            return found
    workers = 0 if facts is None else facts.num_workers or 0
    return _by_step(run.steps, None if workers else 0, threads)


def _by_step(steps: StepTable, workers: int | None, threads: int | None) -> Course:
    """Where nothing is known of the making of batches, the wait for one stands for it."""
    rows = active_rows(steps)
    stages = (steps.stage_ns[rows] * steps.marked[rows]).astype(np.float64)
    wait = stages[:, _DATA].copy()
    stages[:, _DATA] = 0
    none = np.zeros_like(wait)
    using = stages.sum(axis=1)
    return Course(
        batches=Batches(wait, none, none, none, none, using),
        steps_ns=steps.step_ns[rows].astype(np.float64),
        stages_ns=stages,
        workers=workers,
        prefetch=0,
        pins=False,
        threads=threads,
        busy_share=1.0,
        parts=(),
        block=_stretches(rows),
    )


def _by_batch(steps: StepTable, loader: LoaderRecord, threads: int | None) -> Course | None:
    facts, produced = loader.iterators[-1], loader.produced
    order = np.argsort(loader.consumed.asked_ns, kind="stable")
    consumed = select(loader.consumed, order[-MOST_BATCHES:])
    asked, got, nexts = consumed.asked_ns[:-1], consumed.got_ns[:-1], consumed.asked_ns[1:]
    made = _rows_of(produced, consumed)[:-1]
    row = np.searchsorted(steps.start_ns, got, side="right") - 1
    whole = consumed.epoch[:-1] == consumed.epoch[1:]  # the last one's end is not known
    kept = whole & (made != UNKNOWN) & (row >= 0)
    kept[kept] &= got[kept] <= steps.end_ns[row[kept]]
    kept[kept] &= (steps.flags[row[kept]] & int(NOT_TIMED)) == 0
    at = np.flatnonzero(kept)
    if not at.size:
        return None
    made, row = made[at], row[at]
    wait, using = (got - asked)[at].astype(np.float64), (nexts - got)[at].astype(np.float64)
    pinning = consumed.pin_ns[at].astype(np.float64)
    if facts.workers:
        making = (produced.end_ns - produced.start_ns)[made].astype(np.float64)
        handing = (produced.sent_ns - produced.end_ns)[made].astype(np.float64)
        whole_receiving = consumed.receive_ns[at].astype(np.float64)
        # What it takes at best is unpacking; the rest is waiting for a worker that computes.
        receiving = np.minimum(whole_receiving, np.quantile(whole_receiving, UNPACKING_QUANTILE))
        answering = whole_receiving - receiving
    else:
        making = np.maximum(0.0, wait - pinning)
        handing = receiving = answering = np.zeros_like(wait)
    cost = producer_cost(produced, loader.details)
    return Course(
        batches=Batches(making, handing, pinning, receiving, answering, using),
        steps_ns=wait + using,
        stages_ns=_shared_out(steps, row, using),
        workers=facts.workers,
        prefetch=facts.prefetch,
        pins=facts.pins and facts.workers > 0,
        threads=threads,
        busy_share=1.0 if cost is None else 1 - cost.blocked_share,
        parts=() if cost is None else cost.parts,
        block=_stretches(at),
    )


def _shared_out(steps: StepTable, row: Int64Array, using: Times) -> Times:
    """The stages of each step, stretched to what lay between a batch and the next request."""
    stages = (steps.stage_ns[row] * steps.marked[row]).astype(np.float64)
    stages[:, _DATA] = 0
    total = stages.sum(axis=1)
    shared: Times = stages * (using / np.maximum(total, 1.0))[:, None]
    return shared


def _rows_of(produced: Produced, consumed: Consumed) -> Int64Array:
    """(n,) for each batch that was asked for the row that tells of its making, or `UNKNOWN`."""
    if not len(produced):
        return np.full(len(consumed), UNKNOWN)
    most = 1 + max(produced.batch.max(), consumed.batch.max(initial=0))
    made = produced.epoch * most + produced.batch
    asked = consumed.epoch * most + consumed.batch
    order = np.argsort(made, kind="stable")
    at = np.minimum(np.searchsorted(made[order], asked), len(produced) - 1)
    is_known = (made[order][at] == asked) & (consumed.batch != UNKNOWN)
    rows: Int64Array = np.where(is_known, order[at], UNKNOWN)
    return rows


def _stretches(rows: Int64Array) -> Int64Array:
    """Numbers of the stretches of neighbouring rows."""
    return np.cumsum(np.diff(rows, prepend=rows[:1] - 1) != 1).astype(np.int64)
