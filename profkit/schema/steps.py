"""What the stage clock writes: closed steps, and the segments of a sample of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import numpy.typing as npt

from .stage import STAGES

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Flag(IntFlag):
    """What is special about a step; one without any of `NOT_TIMED` is active."""

    WARMUP = 1
    """Before the loop is in its stride, or fed by batches made during another block."""
    DISTURBED = 2
    """A sampler was at work in it: left out of the times."""
    PARTIAL = 4
    """The loop was left (break, exception) before the next request: its end is not known."""
    BLOCK_START = 8
    """First step of a block: of one iteration over the loader."""
    DRAIN = 16
    """Ends with a wait for the device's queue: counts in a block's total, not in the stages."""
    EVALUATION = 32
    """Nothing was trained in it: neither a backward pass nor an optimizer step."""
    COMPILED = 64
    """A module was compiled in it: warm-up, counted apart."""
    INTERRUPTED = 128
    """Something that belongs to no step lay within: an evaluation, the start of workers."""


NOT_TIMED = (
    Flag.WARMUP | Flag.DISTURBED | Flag.PARTIAL | Flag.EVALUATION | Flag.COMPILED | Flag.INTERRUPTED
)


@dataclass(frozen=True, slots=True, eq=False)
class StepTable:
    """Closed steps, in order.

    Attributes:
        start_ns, end_ns: (n,) int64, monotonic clock of the process, half-open.
        stage_ns: (n, 6) int64, one column a stage in the order of `STAGES`; each row sums
            to `end_ns - start_ns`; 0 where `marked` is False.
        marked: (n, 6) bool, whether the stage was marked in that step; `other` always is.
        collective_wait_ns: (n,) int64, or None where no collective was watched.
        samples: (n,) int64, batch size; -1 where it could not be told.
        flags: (n,) int64, `Flag` bits.
    """

    start_ns: Int64Array
    end_ns: Int64Array
    stage_ns: Int64Array
    marked: BoolArray
    collective_wait_ns: Int64Array | None
    samples: Int64Array
    flags: Int64Array

    def __len__(self) -> int:
        return int(self.start_ns.shape[0])

    @property
    def step_ns(self) -> Int64Array:
        """(n,) int64, the duration of each step."""
        return self.end_ns - self.start_ns

    def select(self, rows: BoolArray | Int64Array) -> "StepTable":
        """The steps that a mask or index picks, in order."""
        wait = self.collective_wait_ns
        return StepTable(
            self.start_ns[rows],
            self.end_ns[rows],
            self.stage_ns[rows],
            self.marked[rows],
            None if wait is None else wait[rows],
            self.samples[rows],
            self.flags[rows],
        )

    @classmethod
    def concatenate(cls, tables: Sequence["StepTable"]) -> "StepTable":
        """The steps of several tables, one after the other; None where any wait is None."""
        if not tables:
            return cls.empty()
        waits = [table.collective_wait_ns for table in tables]
        known = [wait for wait in waits if wait is not None]
        return cls(
            np.concatenate([table.start_ns for table in tables]),
            np.concatenate([table.end_ns for table in tables]),
            np.concatenate([table.stage_ns for table in tables]),
            np.concatenate([table.marked for table in tables]),
            np.concatenate(known) if len(known) == len(tables) else None,
            np.concatenate([table.samples for table in tables]),
            np.concatenate([table.flags for table in tables]),
        )

    @classmethod
    def empty(cls) -> "StepTable":
        """No step at all."""
        none = np.zeros(0, np.int64)
        wide = np.zeros((0, len(STAGES)), np.int64)
        return cls(none, none, wide, wide.astype(np.bool_), None, none, none)


@dataclass(frozen=True, slots=True, eq=False)
class MarkTable:
    """The segments of a bounded sample of steps, for timelines; they partition each step.

    Attributes:
        step: (m,) int64, row in the step table.
        stage: (m,) int64, index in `STAGES`.
        start_ns, end_ns: (m,) int64, half-open.
    """

    step: Int64Array
    stage: Int64Array
    start_ns: Int64Array
    end_ns: Int64Array

    def __len__(self) -> int:
        return int(self.step.shape[0])

    @classmethod
    def empty(cls) -> "MarkTable":
        """No segment at all."""
        none = np.zeros(0, np.int64)
        return cls(none, none, none, none)
