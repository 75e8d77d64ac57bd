"""What making a batch costs, timed where it is made: in a loader worker, or in the loop's thread.

Each batch's whole and its collation; the parts of one batch in a few, since timing each call of a
transform costs about half a microsecond, and a sample may have many.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

from ..interruption import pass_on
from ..schema.loader import UNKNOWN
from .core_waits import thread_waited_ns
from .part_finder import find_parts
from .part_times import PartTimes, are_in_place

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
LEAST_EVERY = 4
"""Batches of which one has its parts timed: most are to be undisturbed."""
MOST_EVERY = 64
"""The same where timing is dear, among the first batches."""
DETAILS = 256
"""After so many, each batch whose parts are timed is followed by the more others: details grow
with the logarithm of batches, 20 times these in a billion."""
LEAST_ASKED_NS = 3_000_000
"""Batches that are made sooner are not asked about waits for a core: that takes 12 µs."""
NEVER = 1 << 62
_TIMER = "_profkit_timer"


class Spacing:
    """Which of a loader's batches have their parts timed, where one worker or the loop makes them.

    It goes on from one epoch to the next: those of many loaders are shorter than what lies between
    two such batches.

    Args:
        made: batches before.

    Attributes:
        made: batches so far.
        due: number of the next one whose parts are to be timed.
        look_due: from which one on parts may be looked for, where they are not known yet.
    """

    __slots__ = ("due", "look_due", "made")

    def __init__(self, made: int = 0) -> None:
        every = max(LEAST_EVERY, made // DETAILS)
        self.made = made
        self.due = FIRST_DETAILED + every * max(0, -((FIRST_DETAILED - made) // every))
        self.look_due = 0

    def looked(self, looking_ns: int, batch_ns: int) -> None:
        """Parts were looked for in the batch before."""
        self.look_due = self.made + _batches_for(looking_ns / max(1, batch_ns))

    def timed(self, timing_ns: int, batch_ns: int, any_called: bool) -> None:
        """Parts were timed in the batch before.

        Args:
            timing_ns: that this is thought to have added.
            batch_ns: that the batch took, with it.
            any_called: whether there was anything to time.
        """
        share = COLD_TIMES * timing_ns / max(1, batch_ns - timing_ns)
        every = _batches_for(share) if any_called else MOST_EVERY
        self.due = self.made - 1 + max(LEAST_EVERY, every, self.made // DETAILS)


def _batches_for(share: float) -> int:
    """Among how many batches a cost may come once that is this share of one."""
    return min(MOST_EVERY, int(-(-share // COST_SHARE)))


class BatchTimer:
    """Times the batches of one fetcher, which lives for one epoch.

    It belongs to its fetcher and knows it not, so that all of it goes when the iterator does.
    Nothing that goes wrong in here reaches whoever wants the batch.

    Args:
        dataset: whose samples they are.
        done: told each batch that was made, its row, and its parts where they were timed.
        spacing: of the batches whose parts are timed.
        tell: takes what could not be timed, in words.
        now: monotonic clock in ns.
        cpu: what this thread has computed, in ns.
        waited: how long it waited for a core; raises OSError where that is not known.
    """

    def __init__(
        self,
        dataset: object,
        done: Callable[[Any, Row, Detail | None], None],
        spacing: Spacing,
        tell: Callable[[str], None],
        now: Callable[[], int] = time.perf_counter_ns,
        cpu: Callable[[], int] = time.thread_time_ns,
        waited: Callable[[], int] = thread_waited_ns,
    ) -> None:
        self._dataset = dataset
        self._done, self._tell = done, tell
        self._spacing = spacing
        self._now, self._cpu, self._waited = now, cpu, waited
        self._parts: PartTimes | None = None
        self._timing: PartTimes | None = None
        self._looks = True
        self._looking_ns: int | None = None
        self._last_ns = 0
        self._collate_ns = self._in_collate_ns = 0
        self._samples = UNKNOWN
        self._asks = True

    def make(self, fetch: Fetch, fetcher: Any, index: Any) -> Any:
        """The batch.

        Args:
            fetch: the fetcher's own method.
            fetcher: gets samples and collates them.
            index: of the samples.
        """
        spacing = self._spacing
        detail: Detail | None = None
        try:
            if spacing.made >= spacing.due and self._looks:
                self._begin_parts()
            self._collate_ns = self._in_collate_ns = 0
            self._samples = UNKNOWN
            waited = self._ask() if self._last_ns >= LEAST_ASKED_NS else UNKNOWN
            cpu = self._cpu()
            start = self._now()
            batch = fetch(fetcher, index)
            end = self._now()
            cpu = self._cpu() - cpu
        finally:
            if self._timing is not None:
                detail = self._end_parts()
        if waited != UNKNOWN and (after := self._ask()) != UNKNOWN:
            waited = after - waited
        spacing.made += 1
        self._last_ns = end - start
        if detail is not None:
            self._space(detail, end - start)
        samples = self._samples
        if samples == UNKNOWN and isinstance(index, (list, tuple)):
            samples = len(index)
        row = (start, end, cpu, waited, self._collate_ns, samples, int(detail is not None))
        try:
            self._done(batch, row, detail)
        except Exception as error:  # whatever it is, the batch must come through
            pass_on(error)
            self._tell(f"what a batch cost its producer was not recorded: {error!r}")
        return batch

    def timed(self, collate: Callable[[Any], Any], *, counts: bool) -> Callable[[Any], Any]:
        """The function that puts samples together, timed.

        Args:
            collate: it.
            counts: whether what it gets is one thing for each sample.
        """
        now = self._now

        def timed_collate(samples: Any) -> Any:
            if counts and type(samples) is list:
                self._samples = len(samples)
            parts = self._timing
            before = 0 if parts is None else parts.taken_ns
            began = now()
            try:
                return collate(samples)
            finally:
                self._collate_ns += now() - began
                if parts is not None:
                    self._in_collate_ns += parts.taken_ns - before

        return timed_collate

    def _begin_parts(self) -> None:
        """Have the parts of the next batch timed, if that can be."""
        try:
            self._put_in_place()
        except Exception as error:  # a dataset may hold anything
            self._give_up(error)

    def _put_in_place(self) -> None:
        if are_in_place(self):
            return  # the turn of another thread, or of a loader around this one
        spacing, parts = self._spacing, self._parts
        is_new = parts is None
        if parts is None:
            if spacing.made < spacing.look_due:
                spacing.due = spacing.look_due
                return
            began = self._now()
            parts = self._parts = PartTimes(find_parts(self._dataset), self._now)
            self._looking_ns = self._now() - began
        if not len(parts):
            self._looks = False
            spacing.due = spacing.look_due = spacing.made + MOST_EVERY
            return
        self._timing = parts  # first, so that they are taken away whatever happens
        if not parts.begin(self):
            self._timing = None
            if parts.is_stale:
                self._parts = None
                self._looks = not is_new

    def _end_parts(self) -> Detail | None:
        parts, self._timing = self._timing, None
        assert parts is not None
        try:
            times, timing_ns = parts.end()
        except Exception as error:
            self._give_up(error)
            return None
        return {
            "parts": [
                {"kind": one.kind.value, "name": one.name, "total_ns": one.total_ns}
                | {"calls": one.calls}
                for one in times
            ],
            "timing_ns": timing_ns,
            "in_collate_ns": self._in_collate_ns,
        }

    def _space(self, detail: Detail, batch_ns: int) -> None:
        self._spacing.timed(detail["timing_ns"], batch_ns, bool(detail["parts"]))
        if self._looking_ns is not None:
            self._spacing.looked(self._looking_ns, batch_ns)
            self._looking_ns = None

    def _give_up(self, error: Exception) -> None:
        pass_on(error)
        self._looks = False
        self._parts = None
        self._tell(f"the parts of batches were not timed: {error!r}")

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
    fetcher.collate_fn = timer.timed(fetcher.collate_fn, counts=bool(fetcher.auto_collation))
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
