"""How long the loop's thread is ready to run and gets no core: what the kernel counts of it.

Whatever has the cores meanwhile (loader workers, other threads, other programs) slows the loop.
"""

import os
import time
from collections.abc import Callable

from ..interruption import pass_on
from ..schema.run import CoreWaits
from ..schema.steps import NOT_TIMED
from .loop_clock import LoopClock

LOOK_STEPS = 64
"""Steps that are looked at in each half second: to ask the kernel takes 3 µs, twice a step."""
BLOCK_STEPS = 16
"""Neighbouring steps that make a block; fewer where a look ends."""
MOST_BLOCKS = 128
"""From then on neighbouring blocks are joined, and looks are half as frequent."""
_ACCOUNT = "/proc/thread-self/schedstat"


class CoreWatch:
    """Asks, in a few steps now and then, how long the loop's thread waited for a core.

    From the batch to the end of the step: before, the loop waits for data anyway.

    Args:
        clock: tells it about its steps while it looks at them.
        waited_ns: how long the calling thread has waited for a core since it began; tests give a
            fake one. Raises OSError where that is not known.
        now: monotonic clock in ns.

    Attributes:
        steps: how many of those that were looked at count.
    """

    def __init__(
        self,
        clock: LoopClock,
        waited_ns: Callable[[], int] | None = None,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._clock = clock
        self._waited_ns = waited_ns or thread_waited_ns
        self._now = now
        self._blocks: list[tuple[int, int]] = []
        self._span_ns = self._wait_ns = self._in_block = 0
        self._began: tuple[int, int] | None = None
        self._left = 0
        self._turn, self._every = -1, 1
        self.steps = 0

    def look(self) -> None:
        """Look at the next few steps; to be called between two, about twice a second."""
        self._end_block()
        self._turn += 1
        is_due = self._turn % self._every == 0
        self._left = LOOK_STEPS
        self._clock.witness = self if is_due else None

    def batch_came(self) -> None:
        """The wait for the batch is over."""
        try:
            self._began = (self._now(), self._waited_ns())
        except Exception as error:  # not known here, or not now: no reason to end a training
            pass_on(error)
            self._began = self._clock.witness = None

    def step_closed(self, flags: int) -> None:
        """The step is over."""
        self._left -= 1
        if self._left == 0:
            self._clock.witness = None
        if self._began is None or flags & NOT_TIMED:
            return
        (began_ns, waited_ns), self._began = self._began, None
        try:
            waited = self._waited_ns() - waited_ns
        except Exception as error:  # likewise
            pass_on(error)
            return
        self._span_ns += self._now() - began_ns
        self._wait_ns += waited
        self.steps += 1
        self._in_block += 1
        if self._in_block == BLOCK_STEPS:
            self._end_block()

    @property
    def found(self) -> CoreWaits | None:
        """What was seen so far; None where that is nothing."""
        blocks = self._blocks + [(self._span_ns, self._wait_ns)] * (self._span_ns > 0)
        if not blocks:
            return None
        spans, waits = zip(*blocks, strict=True)
        return CoreWaits(self.steps, spans, waits)

    def _end_block(self) -> None:
        if self._span_ns:
            self._blocks.append((self._span_ns, self._wait_ns))
            self._span_ns = self._wait_ns = self._in_block = 0
        if len(self._blocks) == MOST_BLOCKS:
            pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
            self._blocks = [(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
            self._every *= 2


def thread_waited_ns() -> int:
    """How long the calling thread was ready to run without a core, since it began, in ns.

    Source: Linux, Documentation/scheduler/sched-stats: cpu time, run delay, timeslices.

    Raises:
        OSError: this system does not count it.
    """
    file = os.open(_ACCOUNT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        ran, waited, _ = os.read(file, 96).split()
    finally:
        os.close(file)
    if not int(ran) and not int(waited):  # the file is there, but nobody counts
        raise OSError(f"{_ACCOUNT} stands still")
    return int(waited)
