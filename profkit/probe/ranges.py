"""The stage clock's steps and marks as ranges of a `torch.profiler` trace."""

import time
from collections.abc import Callable

from torch.profiler import record_function

from ..schema.stage import STAGES, Stage
from ..schema.trace import LOADER_END, STEP_PREFIX, stage_range

_RANGES = tuple(stage_range(stage) for stage in STAGES)
_DATA_WAIT = stage_range(Stage.DATALOADER)


class Ranges:
    """What a stage clock tells, as ranges of the trace being recorded: a `marks.Listener`.

    A step is `ProfilerStep#<n>`, a stage `profkit:<stage>`, the wait for a batch
    `profkit:dataloader`. The ranges lie around the marks: what annotating costs falls between
    steps or into the stage around.

    Attributes:
        annotating: whether the ranges are emitted; switch it between steps only, that is in the
            clock's sink.
    """

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.annotating = False
        self._now = now
        self._step_range: record_function | None = None
        self._wait_range: record_function | None = None
        self._mark_ranges: list[record_function] = []

    def step_opens(self, step: int) -> int:
        """Begin a step's range and the wait for its batch; gives the moment in between."""
        if self.annotating:
            self._step_range = _opened(f"{STEP_PREFIX}{step}")
            self._wait_range = _opened(_DATA_WAIT)
        return self._now()

    def batch_came(self) -> None:
        """End the range of the wait."""
        self._close_wait()

    def stage_begins(self, index: int) -> None:
        """Begin a stage's range."""
        if self._step_range is not None:
            self._mark_ranges.append(_opened(_RANGES[index]))

    def stage_ends(self) -> None:
        """End the innermost one."""
        if self._mark_ranges:
            _close(self._mark_ranges.pop())

    def step_closes(self) -> None:
        """End all that is open."""
        self._close_ranges()

    def loop_ends(self) -> None:
        """Say that the open range is no step, and end it."""
        if self._step_range is not None:
            _close(_opened(LOADER_END))
            self._close_ranges()

    def _close_wait(self) -> None:
        if self._wait_range is not None:
            _close(self._wait_range)
            self._wait_range = None

    def _close_ranges(self) -> None:
        while self._mark_ranges:
            _close(self._mark_ranges.pop())
        self._close_wait()
        if self._step_range is not None:
            _close(self._step_range)
            self._step_range = None


def _opened(name: str) -> record_function:
    opened = record_function(name)
    opened.__enter__()  # type: ignore[no-untyped-call]
    return opened


def _close(opened: record_function) -> None:
    opened.__exit__(None, None, None)
