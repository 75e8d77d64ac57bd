"""What a DataLoader's batches cost their producer, and how long the loop waited for each."""

from dataclasses import dataclass, fields
from enum import Enum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

UNKNOWN = -1
"""In a column of durations or counts: not measured."""


class PartKind(Enum):
    """What a part of a batch's cost is."""

    FETCH = "fetch"
    """Getting the samples: `__getitem__` less what has a part of its own."""
    DECODE = "decode"
    TRANSFORM = "transform"
    COLLATE = "collate"
    SERIALISE = "serialise"
    TRANSFER = "hand over"
    """Writing it to the worker's queue."""


@dataclass(frozen=True, slots=True, eq=False)
class Produced:
    """Batches where they were made, one a row; all columns (n,) int64.

    Attributes:
        loader: number of the DataLoader in its program.
        epoch: how often it was iterated before.
        batch: number in its epoch, as the workers were asked for them.
        worker: that made it; `UNKNOWN` for the loop's own thread.
        start_ns, end_ns: of fetching, collating included; monotonic clock, the same in all
            processes of a machine.
        cpu_ns: that its thread computed meanwhile; on the clock of threads.
        core_wait_ns: that its thread was ready to run without a core; or `UNKNOWN`.
        collate_ns: of it, for putting the samples together.
        serialise_ns, transfer_ns: what the worker's feeder thread computed for it afterwards, on
            the clock of threads: in Python it mostly waits for the interpreter, which then makes
            the next batch; 0 in the loop's own thread.
        sent_ns: when it was on its way to the main process; `end_ns` in the loop's own thread.
        samples: or `UNKNOWN`.
        detailed: 1 where its parts were timed too, which made it dearer.
    """

    loader: Int64Array
    epoch: Int64Array
    batch: Int64Array
    worker: Int64Array
    start_ns: Int64Array
    end_ns: Int64Array
    cpu_ns: Int64Array
    core_wait_ns: Int64Array
    collate_ns: Int64Array
    serialise_ns: Int64Array
    transfer_ns: Int64Array
    sent_ns: Int64Array
    samples: Int64Array
    detailed: Int64Array

    def __len__(self) -> int:
        return int(self.start_ns.shape[0])


@dataclass(frozen=True, slots=True, eq=False)
class Consumed:
    """Batches where they were asked for, one a row; all columns (n,) int64.

    Attributes:
        loader, epoch: see `Produced`.
        batch: or `UNKNOWN` where the loader hands them out as they come.
        asked_ns, got_ns: the loop's request, and its answer.
        arrived_ns: when it had come out of the queue, perhaps long before; or `UNKNOWN`.
        receive_ns: for reading and unpacking it, in whichever thread does that.
        pin_ns: for copying it to pinned memory; 0 where that is not done.
    """

    loader: Int64Array
    epoch: Int64Array
    batch: Int64Array
    asked_ns: Int64Array
    got_ns: Int64Array
    arrived_ns: Int64Array
    receive_ns: Int64Array
    pin_ns: Int64Array

    def __len__(self) -> int:
        return int(self.asked_ns.shape[0])


Table = TypeVar("Table", Produced, Consumed)


def columns(table: type) -> tuple[str, ...]:
    """The columns of a table, in order."""
    return tuple(field.name for field in fields(table))


def select(table: Table, rows: npt.NDArray[np.bool_] | Int64Array) -> Table:
    """The rows that a mask or an index picks, in order."""
    return type(table)(*(getattr(table, name)[rows] for name in columns(type(table))))


@dataclass(frozen=True, slots=True)
class PartTime:
    """A part of one batch.

    Attributes:
        kind: `DECODE` or `TRANSFORM`.
        name: of the callable, with those that it is called from.
        total_ns: self time of all its calls, less what timing them took.
        calls: how many.
    """

    kind: PartKind
    name: str
    total_ns: int
    calls: int


@dataclass(frozen=True, slots=True)
class Detail:
    """The parts of one batch.

    Attributes:
        loader, epoch, batch: which, see `Produced`.
        parts: in the order in which they were found.
        timing_ns: what timing them added to the batch.
    """

    loader: int
    epoch: int
    batch: int
    parts: tuple[PartTime, ...]
    timing_ns: int
    in_collate_ns: int = 0
    """Of the parts, what they took while the samples were put together."""


@dataclass(frozen=True, slots=True)
class WorkerBirth:
    """A loader worker that is ready for its first batch.

    Attributes:
        loader, epoch: see `Produced`; the first epoch that it works for.
        worker: its number.
        ready_ns: when.
    """

    loader: int
    epoch: int
    worker: int
    ready_ns: int


@dataclass(frozen=True, slots=True)
class WorkerGap:
    """What a loader worker could not record.

    Attributes:
        gap: in words.
    """

    gap: str


@dataclass(frozen=True, slots=True)
class IteratorFacts:
    """How a loader was set when it was iterated.

    Attributes:
        loader, epoch: see `Produced`.
        workers: 0 where the loop makes the batches itself.
        prefetch: batches that each of them makes ahead; 0 without workers.
        in_order: whether batches are handed out in the order in which they were asked for.
        pins: whether they are copied to pinned memory.
        persistent: whether the workers outlive the epoch.
        method: how they are started: `fork`, `spawn`, `forkserver`; None without any.
        began_ns, ready_ns: making the iterator, the start of the workers included.
    """

    loader: int
    epoch: int
    workers: int
    prefetch: int
    in_order: bool
    pins: bool
    persistent: bool
    method: str | None
    began_ns: int
    ready_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class LoaderRecord:
    """All that was recorded of a run's loaders.

    Attributes:
        iterators: in the order in which they were made.
        births: of workers.
        details: of the batches whose parts were timed.
        gaps: sentences: what is missing.
    """

    iterators: tuple[IteratorFacts, ...]
    births: tuple[WorkerBirth, ...]
    produced: Produced
    consumed: Consumed
    details: tuple[Detail, ...]
    gaps: tuple[str, ...] = ()
