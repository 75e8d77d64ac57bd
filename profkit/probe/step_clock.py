"""A stage clock for a loop that profkit runs: its steps are known, its stages are looked for.

`run_steps` asks for each batch and calls the step. What the step marks itself counts; where it
marks nothing, hooks (`probe.hooks`) mark the stages, and only while a step goes on, in its thread.
"""

import time
from _thread import get_ident
from collections.abc import Callable, Iterator
from typing import Any

from ..schema.stage import STAGES, Stage
from ..schema.steps import Flag, MarkTable, StepTable
from .batch_size import batch_sizer
from .loop_clock import LoopClock
from .partition import BATCH, BEGIN, LEAVE, OPEN, close_event, is_close

_LATEST_EVENTS = 8_192
"""Integers looked back upon for the mark that is open; a step that holds more is rare."""


class StepClock(LoopClock):
    """Steps that are told, stages that are marked by the step itself or by hooks.

    Args:
        now: monotonic clock in ns; tests give a fake one.
        drain: waits for what a device has queued; None where there is none.
    """

    def __init__(
        self,
        *,
        now: Callable[[], int] = time.perf_counter_ns,
        drain: Callable[[], None] | None = None,
    ) -> None:
        self._gathered: list[StepTable] = []
        super().__init__(self._keep, now=now)
        self.is_headless = False
        self.drain = drain
        self.stop()

    def _keep(self, steps: StepTable, marks: MarkTable) -> None:
        self._gathered.append(steps)

    def take(self) -> StepTable:
        """The steps closed since this was asked last."""
        self.flush()
        taken, self._gathered = StepTable.concatenate(self._gathered), []
        return taken

    def run_steps(
        self,
        batches: Iterator[Any],
        train: Callable[[Any], object],
        count: int,
        *,
        hooked: bool,
        deadline_ns: int,
        warmup: int = 0,
        drains: bool = True,
    ) -> int:
        """Train on the next batches; each request for one opens a step.

        Args:
            batches: asked for at most `count` of them.
            train: told each batch.
            count: steps.
            hooked: whether what hooks see is part of the step.
            deadline_ns: on this clock; no step begins later, but for the first.
            warmup: how many first ones are flagged as warm-up.
            drains: whether the last of `count` steps ends when the device has done its work.

        Returns:
            Steps done: fewer where the iterator has ended, or the time was over.
        """
        __tracebackhide__ = True  # what a step raises is about the step
        now, push = self.now, self.push
        self.thread = get_ident()
        done = 0
        flags = Flag.BLOCK_START.value
        try:
            start = now()
            while done < count:
                self._flags = 0
                push((OPEN, start))
                try:
                    batch = next(batches)
                except StopIteration:
                    break
                push((BATCH, now()))
                if done == 0:
                    self._size = batch_sizer(batch)
                self._samples = self._sized(batch)
                if hooked:
                    self.step_is_open, self.stopped, self.busy = True, False, False
                train(batch)
                self.stop()
                del batch
                done += 1
                flags |= self._flags | (Flag.WARMUP.value if done <= warmup else 0)
                start = now()
                is_last = done == count or start >= deadline_ns
                if is_last and drains and self.drain is not None:
                    self.drain()
                    flags |= Flag.DRAIN.value
                    start = now()
                push((close_event(self._samples, flags), start))
                flags = 0
                if is_last:
                    break
                if len(self._events) >= self._capacity:
                    self.flush()
                    start = now()
        finally:
            self.stop()
            self._drop_open()
            self.thread = 0
        return done

    def _sized(self, batch: object) -> int:
        self._samples = 0
        self._add(batch)
        return self._samples if self._size is not None else -1

    def where(self) -> Stage | None:
        """The stage that the step is in just now; None between steps. From any thread."""
        events = self._events[-_LATEST_EVENTS:]
        left = 0
        for code in events[-2::-2]:
            if code == LEAVE:
                left += 1
            elif is_close(code):
                return None
            elif code >= 0:
                if left == 0:
                    return STAGES[code]
                left -= 1
            elif code == OPEN:
                return Stage.DATALOADER
            elif code in (BATCH, BEGIN):
                return Stage.OTHER
        return None

    # What hooks would have a `LoopClock` find out --------------------------------------------

    def claim(self) -> bool:
        """Whether this thread runs the step; no other one ever does."""
        return self.thread == get_ident()

    def claim_by_training(self) -> bool:
        """Likewise: another thread that trains is not what is measured."""
        return self.claim()

    def begin(self) -> None:
        """Nothing: work outside of a step opens none."""

    def ask(self, key: int) -> bool | None:
        """Another loader is asked within the step: its wait is data wait of that step."""
        if self.busy or not self.step_is_open or not self.claim():
            return None
        self._enter()
        self.busy = True
        return True

    def got(self, batch: object, within: bool) -> None:
        """It gave a batch."""
        self.busy = self.stopped
        self._leave()

    def got_none(self, key: int, within: bool) -> None:
        """It gave none."""
        self.busy = self.stopped
        self._leave()

    def release(self, key: int, *, exhausted: bool = False) -> None:
        """Nothing: no iterator but the measured one opens steps."""

    def starts_workers(self, key: int) -> None:
        """Nothing: what a step starts is part of it."""

    def _interrupts(self) -> bool:
        # An evaluation within the step is part of what is measured.
        return False
