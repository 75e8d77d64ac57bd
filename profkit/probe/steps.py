"""The loop over a loader: each request for a batch opens a step and closes the one before.

The hottest part of the hot path: see `probe.marks`.
"""

from _thread import get_ident
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..interruption import pass_on
from ..schema.stage import Stage
from ..schema.steps import Flag
from .batch_size import batch_sizer
from .partition import BATCH, OPEN, close_event

if TYPE_CHECKING:
    from .marks import StageClock

T = TypeVar("T")


class Steps(Generic[T]):
    """An iterable of batches that marks the steps; as long as what it wraps."""

    def __init__(self, clock: "StageClock", iterable: Iterable[T], warmup: int) -> None:
        self._clock = clock
        self._iterable = iterable
        self._warmup = warmup

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # its TypeError is the right one

    def __iter__(self) -> Iterator[T]:
        # Made at once and not at the first request: worker start-up belongs to no step, not
        # even to that of another loader that is zipped with this one.
        return self._iterate(iter(self._iterable))

    def _iterate(self, iterator: Iterator[T]) -> Generator[T, None, None]:
        thread = self._clock.thread
        if thread == 0:
            yield from self._iterate_outermost(iterator)
        elif thread == get_ident():
            yield from self._iterate_within(iterator)
        else:
            self._clock.foreign_steps += 1
            yield from iterator

    def _iterate_within(self, iterator: Iterator[T]) -> Generator[T, None, None]:
        """Another loader inside an open step: its waits are data wait of that step."""
        clock = self._clock
        wait = clock.stage(Stage.DATALOADER.value)
        while True:
            with wait:
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            clock.inner_batches += 1
            if len(clock._events) > 2 * clock._capacity:
                clock._shed()
            yield batch

    def _iterate_outermost(self, iterator: Iterator[T]) -> Generator[T, None, None]:
        clock = self._clock
        now, listener = clock._now, clock._listener
        push = clock._push
        clock.thread = get_ident()
        clock._flags = 0
        events, capacity = clock._events, clock._capacity
        flags = Flag.BLOCK_START.value
        warm = max(self._warmup, clock._warmup - clock.count)
        size: Callable[[Any], int] | None = None
        # What `close_event` gives, without the call.
        closing = close_event(0, 0)
        per_sample = close_event(1, 0) - closing
        start = now()
        due = clock._due or start + clock._period_ns
        try:
            while True:
                if listener is not None:
                    start = listener.step_opens(clock.count)
                push((OPEN, start))
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
                push((BATCH, now()))
                if listener is not None:
                    listener.batch_came()
                if warm > 0:
                    warm -= 1
                    flags |= Flag.WARMUP.value
                samples = -1
                if flags:
                    size = batch_sizer(batch)
                if size is not None:
                    try:
                        samples = size(batch)
                    except Exception as error:  # anything, and unlike the first
                        pass_on(error)
                        size = None
                try:
                    yield batch
                except GeneratorExit:
                    # break, or an exception in the body: no next request closes this step.
                    if listener is not None:
                        listener.step_closes()
                    flags |= clock._flags | Flag.PARTIAL.value
                    push((close_event(samples, flags), now()))
                    raise
                del batch
                if listener is not None:
                    listener.step_closes()
                start = now()
                if clock._flags:
                    flags |= clock._flags
                    clock._flags = 0
                push((closing + flags + samples * per_sample, start))
                flags = 0
                if start >= due or len(events) >= capacity:
                    clock.flush()
                    due = clock._due
                    start = now()
        finally:
            clock._drop_open()
            clock.thread = 0
            if listener is not None:
                listener.loop_ends()
