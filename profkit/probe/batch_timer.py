"""What making a batch costs, timed where it is made: in a loader worker, or in the loop's thread.

Each batch's whole and its collation; the parts of one batch in a few, since timing each call of a
transform costs about half a microsecond, and a sample may have many.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from ..schema.loader import UNKNOWN
from .core_waits import thread_waited_ns
from .part_finder import find_parts
from .part_times import PartTimes

Fetch = Callable[[Any, Any], Any]
Row = tuple[int, ...]
"""start, end, cpu, core wait, collate, samples, detailed: see `schema.loader.Produced`."""
Detail = dict[str, Any]
"""Of `schema.loader.Detail`, what is known of a batch without its number."""

COST_SHARE = 0.005
"""Of a batch's time, what timing its parts may cost on average."""
COLD_TIMES = 8
"""What a timed call costs among others over what it costs alone, again and again: 2.4 µs were
measured on MNIST where the calibration said 0.4."""
FIRST_DETAILED = 1
"""The first batch of all pays for imports and cold caches."""
FIRST_EVERY = 4
MOST_BETWEEN = 64
"""Batches of which one has its parts timed."""
LEAST_ASKED_NS = 3_000_000
"""Batches that are made sooner are not asked about waits for a core: that takes 12 µs."""
_TIMER = "_profkit_timer"


class BatchTimer:
    """Times the batches of one fetcher, which lives for one epoch.

    It belongs to its fetcher and knows it not, so that all of it goes when the iterator does.

    Args:
        dataset: whose samples they are.
        done: told each batch that was made, its row, and its parts where they were timed.
        now: monotonic clock in ns.
        cpu: what this thread has computed, in ns.
        waited: how long it waited for a core; raises OSError where that is not known.
    """

    def __init__(
        self,
        dataset: object,
        done: Callable[[Any, Row, Detail | None], None],
        now: Callable[[], int] = time.perf_counter_ns,
        cpu: Callable[[], int] = time.thread_time_ns,
        waited: Callable[[], int] = thread_waited_ns,
    ) -> None:
        self._dataset = dataset
        self._done = done
        self._now, self._cpu, self._waited = now, cpu, waited
        self._parts: PartTimes | None = None
        self._made = 0
        self._every = FIRST_EVERY
        self._last_ns = 0
        self._collate_ns = self._in_collate_ns = 0
        self._asks = True

    def make(self, fetch: Fetch, fetcher: Any, index: Any) -> Any:
        """The batch.

        Args:
            fetch: the fetcher's own method.
            fetcher: gets samples and collates them.
            index: of the samples.
        """
        parts = self._due_parts()
        self._collate_ns = self._in_collate_ns = 0
        waited = self._ask() if self._last_ns >= LEAST_ASKED_NS else UNKNOWN
        detail: Detail | None = None
        if parts is not None:
            parts.begin()
        cpu = self._cpu()
        start = self._now()
        try:
            batch = fetch(fetcher, index)
            end = self._now()
            cpu = self._cpu() - cpu
        finally:
            if parts is not None:
                detail = self._end(parts)
        if waited != UNKNOWN and (after := self._ask()) != UNKNOWN:
            waited = after - waited
        self._made += 1
        self._last_ns = end - start
        if detail is not None:
            self._space(detail["timing_ns"], end - start)
        samples = len(index) if isinstance(index, (list, tuple)) else UNKNOWN
        row = (start, end, cpu, waited, self._collate_ns, samples, int(detail is not None))
        self._done(batch, row, detail)
        return batch

    def timed(self, collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function that puts samples together, timed."""
        now = self._now

        def timed_collate(samples: Any) -> Any:
            parts = self._parts
            before = 0 if parts is None else parts.taken_ns
            began = now()
            try:
                return collate(samples)
            finally:
                self._collate_ns += now() - began
                if parts is not None:
                    self._in_collate_ns += parts.taken_ns - before

        return timed_collate

    def _due_parts(self) -> PartTimes | None:
        """What times the next batch's parts, if they are to be."""
        if self._made < FIRST_DETAILED or (self._made - FIRST_DETAILED) % self._every:
            return None
        if self._parts is None:
            self._parts = PartTimes(find_parts(self._dataset), self._now)
        return self._parts

    def _end(self, parts: PartTimes) -> Detail:
        times, timing_ns = parts.end()
        return {
            "parts": [
                {"kind": one.kind.value, "name": one.name, "total_ns": one.total_ns}
                | {"calls": one.calls}
                for one in times
            ],
            "timing_ns": timing_ns,
            "in_collate_ns": self._in_collate_ns,
        }

    def _space(self, timing_ns: int, batch_ns: int) -> None:
        """How many batches have one among them whose parts are timed."""
        share = COLD_TIMES * timing_ns / max(1, batch_ns - timing_ns)
        self._every = max(1, min(MOST_BETWEEN, -int(-share // COST_SHARE)))

    def _ask(self) -> int:
        if not self._asks:
            return UNKNOWN
        try:
            return self._waited()
        except (OSError, ValueError):
            self._asks = False
            return UNKNOWN


def attach(fetcher: Any, timer: BatchTimer) -> None:
    """Have a fetcher's batches timed, where its class is hooked by `timed_fetch`."""
    fetcher.collate_fn = timer.timed(fetcher.collate_fn)
    setattr(fetcher, _TIMER, timer)


def timed_fetch(fetch: Fetch) -> Fetch:
    """The method of a fetcher's class that gets a batch, timed where the fetcher has a timer."""

    @functools.wraps(fetch)
    def timed(self: Any, possibly_batched_index: Any) -> Any:
        timer = self.__dict__.get(_TIMER)
        if timer is None:
            return fetch(self, possibly_batched_index)
        return timer.make(fetch, self, possibly_batched_index)

    timed._profkit_times = True  # type: ignore[attr-defined]
    return timed


def is_timed(fetch: Fetch) -> bool:
    """Whether a method is one that `timed_fetch` made."""
    return getattr(fetch, "_profkit_times", False) is True
