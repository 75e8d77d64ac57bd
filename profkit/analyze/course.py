"""What each batch of a run took, from its making to the end of its step: ground for replays."""

from dataclasses import dataclass

import numpy as np

from ..schema.loader import (
    UNKNOWN,
    BoolArray,
    Consumed,
    Int64Array,
    LoaderRecord,
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
LEAST_IDLE = 10
"""Batches whose workers were idle, for what receiving one takes to be theirs."""
UNPACKING_QUANTILE = 0.1
"""Else this one of what receiving a batch takes."""
_DATA = STAGES.index(Stage.DATALOADER)
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """A run, batch by batch, without the steps that do not count.

    Attributes:
        batches: n of them.
        steps_ns: (n,) what each step took.
        stages_ns: (n, 6) the parts of `batches.using`, in the order of `STAGES`; 0 for data wait.
        workers: None where the loop was fed by workers of whose batches nothing is known.
        untold: why, in words.
        prefetch: 0 without workers.
        pins: whether a thread receives and pins batches.
        threads: intra-op ones; None where that is not known.
        busy_share: of the time of making a batch, what its maker wants a core for; 1 where that
            is not known.
        parts: of what a batch costs its producer; empty where that was not looked into.
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
    untold: str = ""

    def __len__(self) -> int:
        return int(self.steps_ns.size)

    def share(self, name: str, *, handing: bool) -> float | None:
        """Part that a named one holds of making a batch, or of handing it over.

        Returns:
            None if it has none of that name.
        """
        parts = [part for part in self.parts if part.is_queue == handing]
        whole = sum(part.batch_ns for part in parts)
        held = [part.batch_ns for part in parts if name in part.names]
        return sum(held) / whole if held and whole > 0 else None


def course_of(run: RunRecord, loader: LoaderRecord | None) -> Course:
    """The course of a run.

    Args:
        run: its steps.
        loader: see `training_loader`; None where nothing is known of it.
    """
    facts = run.manifest.loader
    untold = "nothing was recorded of the workers: record it again"
    threads = run.manifest.environment.intra_op_threads
    if loader is not None:
        found = _by_batch(run.steps, loader, threads)
        if found is not None and len(found):
            return found
        untold = (
            "its epochs are too short to tell work from the workers' start"
            if loader.iterators[-1].in_order
            else "which worker made which batch is not known where they come as they are ready"
        )
    workers = 0 if facts is None else facts.num_workers or 0
    return _by_step(run.steps, None if workers else 0, threads, untold if workers else "")


def _by_step(steps: StepTable, workers: int | None, threads: int | None, untold: str) -> Course:
    """Where nothing is known of the making of batches, the wait for one stands for it."""
    rows = active_rows(steps)
    stages = (steps.stage_ns[rows] * steps.marked[rows]).astype(np.float64)
    wait = stages[:, _DATA].copy()
    stages[:, _DATA] = 0
    using = stages.sum(axis=1)
    return Course(
        batches=Batches.of_the_loop(wait, using),
        steps_ns=steps.step_ns[rows].astype(np.float64),
        stages_ns=stages,
        workers=workers,
        prefetch=0,
        pins=False,
        threads=threads,
        busy_share=1.0,
        parts=(),
        untold=untold,
    )


def _by_batch(steps: StepTable, loader: LoaderRecord, threads: int | None) -> Course | None:
    facts, produced = loader.iterators[-1], loader.produced
    order = np.argsort(loader.consumed.asked_ns, kind="stable")
    consumed = select(loader.consumed, order[-MOST_BATCHES:])
    asked, got, nexts = consumed.asked_ns[:-1], consumed.got_ns[:-1], consumed.asked_ns[1:]
    made = _rows_of(produced, consumed)[:-1]
    row = np.searchsorted(steps.start_ns, got, side="right") - 1
    whole = consumed.epoch[:-1] == consumed.epoch[1:]  # the last one's end is not known
    if facts.workers:
        # An epoch's first batch waits for the workers to start.
        whole &= np.concatenate(([False], whole[:-1])) if len(whole) else whole
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
        order = np.lexsort((produced.start_ns, produced.worker, produced.epoch))
        ordering, starting = _until_begun(produced, consumed, order, facts.workers * facts.prefetch)
        ordering, starting = ordering[made], starting[made]
        making = (produced.end_ns - produced.start_ns)[made].astype(np.float64)
        handing = (produced.sent_ns - produced.end_ns)[made].astype(np.float64)
        began, end = _receiving(produced, consumed, facts.pins)
        taken = (end - began)[at].astype(np.float64)
        beside = _while_making(produced, order, made, began[at], end[at])
        unpacking = _unpacking_ns(taken, beside)
        answering = np.minimum(beside, np.maximum(0.0, taken - unpacking))
        receiving = taken - answering
    else:
        making = np.maximum(0.0, wait - pinning)
        ordering = starting = handing = receiving = answering = np.zeros_like(wait)
    cost = producer_cost(produced, loader.details)
    return Course(
        batches=Batches(ordering, starting, making, handing, pinning, receiving, answering, using),
        steps_ns=wait + using,
        stages_ns=_shared_out(steps, row, using),
        workers=facts.workers,
        prefetch=facts.prefetch,
        pins=facts.pins and facts.workers > 0,
        threads=threads,
        busy_share=1.0 if cost is None else 1 - cost.blocked_share,
        parts=() if cost is None else cost.parts,
    )


def _shared_out(steps: StepTable, row: Int64Array, using: Times) -> Times:
    """The stages of each step, stretched to what lay between a batch and the next request."""
    stages = (steps.stage_ns[row] * steps.marked[row]).astype(np.float64)
    stages[:, _DATA] = 0
    total = stages.sum(axis=1)
    shared: Times = stages * (using / np.maximum(total, 1.0))[:, None]
    return shared


def _until_begun(
    produced: Produced, consumed: Consumed, order: Int64Array, on_order: int
) -> tuple[Times, Times]:
    """(p,) from the order of each batch, and from its worker's last one, until it was begun.

    Each shows where it is the later of the two; elsewhere it takes the value of another batch.

    Args:
        produced, consumed: of one loader.
        order: of the produced, each worker's together.
        on_order: batches that are ordered ahead: each is ordered when the one that was asked for
            so many before it is handed out.
    """
    free = np.full(len(produced), _NEVER)
    follows = _same_worker(produced, order)
    free[order[1:][follows]] = produced.end_ns[order[:-1][follows]]
    handed = {
        (epoch, batch + on_order): got
        for epoch, batch, got in zip(
            consumed.epoch.tolist(), consumed.batch.tolist(), consumed.got_ns.tolist(), strict=True
        )
    }
    keys = zip(produced.epoch.tolist(), produced.batch.tolist(), strict=True)
    ordered = np.array([handed.get(key, 0) for key in keys], np.int64)
    is_known = (free != _NEVER) & (ordered != 0)
    is_idle = is_known & (free < ordered)
    ordering = _filled(produced.start_ns - ordered, is_idle)
    starting = _filled(produced.start_ns - free, is_known & ~is_idle)
    return ordering, starting


def _filled(values: Int64Array, is_known: BoolArray) -> Times:
    """The values, with known ones in turn in place of the others; 0 where none is known."""
    known = np.flatnonzero(is_known)
    if not known.size:
        return np.zeros(values.shape)
    rows = np.where(is_known, np.arange(values.size), np.resize(known, values.size))
    filled: Times = np.maximum(0.0, values[rows])
    return filled


def _receiving(produced: Produced, consumed: Consumed, pins: bool) -> tuple[Int64Array, Int64Array]:
    """(n,) when the receiving of each batch began and ended.

    It begins when the batch is sent, the one before it received, and, unless a thread `pins`, the
    loop asks: waking up for it counts.
    """
    made = _rows_of(produced, consumed)
    end = np.where(consumed.arrived_ns == UNKNOWN, consumed.got_ns, consumed.arrived_ns)
    order = np.argsort(end, kind="stable")
    began = np.where(made == UNKNOWN, end - consumed.receive_ns, produced.sent_ns[made])
    began[order[1:]] = np.maximum(began[order[1:]], end[order[:-1]])
    if not pins:
        asked = np.sort(consumed.asked_ns)
        began = np.maximum(began, asked[np.maximum(0, np.searchsorted(asked, end) - 1)])
    return np.minimum(began, end - consumed.receive_ns), end


def _unpacking_ns(taken: Times, beside: Times) -> float:
    """What receiving a batch takes where its worker answers at once.

    Args:
        taken: (n,) for receiving each.
        beside: (n,) of it, while its worker was making another.
    """
    idle = taken[beside == 0]
    if idle.size >= LEAST_IDLE:
        return float(np.median(idle))
    return float(np.quantile(taken, UNPACKING_QUANTILE))


def _while_making(
    produced: Produced, order: Int64Array, made: Int64Array, began: Int64Array, end: Int64Array
) -> Times:
    """(n,) of receiving each batch, while its worker was making another.

    Args:
        produced: of one loader.
        order: of the produced, each worker's together.
        made: (n,) their rows, for those received.
        began, end: (n,) of receiving them.
    """
    within = np.zeros(len(made))
    for worker in np.unique(produced.worker):
        rows = order[produced.worker[order] == worker]
        since, until = produced.start_ns[rows], produced.end_ns[rows]
        # How long it has made batches, at each of these times.
        when = np.stack((since, until), axis=1).reshape(-1)
        worked = np.repeat(np.cumsum(until - since), 2)
        worked[::2] -= until - since
        of_it = produced.worker[made] == worker
        within[of_it] = np.interp(end[of_it], when, worked) - np.interp(began[of_it], when, worked)
    return within


def _same_worker(produced: Produced, order: Int64Array) -> BoolArray:
    """(p - 1,) whether neighbours in that order come from the same worker of the same epoch."""
    same_epoch = np.diff(produced.epoch[order]) == 0
    same: BoolArray = same_epoch & (np.diff(produced.worker[order]) == 0)
    return same


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
