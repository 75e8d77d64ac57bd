"""Lets a training loop run block by block: between two of them it stands still."""

import sys
from collections.abc import Callable

import numpy as np

from ..schema.steps import NOT_TIMED, StepTable
from .loop_clock import LoopClock

_WARMUP_LOOK = 5
"""Last steps of the warm-up that tell how long one takes."""


class Pacer:
    """Stops a loop at the end of each block, between two steps, until it is told to go on.

    Args:
        clock: of the loop; handed its steps by `gather`.
        warmup: steps before the first block.
        ready: told the median of the last of them, in ns; gives the steps of the first block.
        done: told the steps of a block and what the device still had to do after it, in ns; gives
            the steps of the next block. Both wait, and may raise to end the program.
    """

    def __init__(
        self,
        clock: LoopClock,
        warmup: int,
        ready: Callable[[int], int],
        done: Callable[[StepTable, int], int],
    ) -> None:
        self._clock = clock
        self._left = max(1, warmup)
        self._ready = ready
        self._done = done
        self._is_warm = False
        self._gathered: list[StepTable] = []

    def gather(self, steps: StepTable, _: object) -> None:
        """Take closed steps: what the clock calls its sink."""
        self._gathered.append(steps)

    def batch_came(self) -> None:
        """Nothing to do: see `Witness`."""

    def step_closed(self, flags: int) -> None:
        """The step is over; at a block's end, wait."""
        if flags & NOT_TIMED:
            return
        self._left -= 1
        if self._left:
            return
        drain_ns = self._drain()
        self._clock.flush()
        steps, self._gathered = StepTable.concatenate(self._gathered), []
        if self._is_warm:
            self._left = self._done(steps, drain_ns)
        else:
            self._is_warm = True
            self._left = self._ready(int(np.median(steps.step_ns[-_WARMUP_LOOK:])))

    def _drain(self) -> int:
        """Wait until the device has done what the block gave it; how long that took, in ns."""
        if self._clock.device in (None, "cpu"):
            return 0
        torch = sys.modules["torch"]
        began = self._clock.now()
        torch.accelerator.synchronize() if hasattr(torch, "accelerator") else (
            torch.cuda.synchronize()
        )
        return self._clock.now() - began
