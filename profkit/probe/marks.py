"""Explicit stage marks: a clock that gives every nanosecond of a step to exactly one stage.

This is the hot path. The clock keeps one current stage and the moment since when; a mark
adds what has passed to the stage that it leaves. So the stages partition the step by
construction, in integers, and nested marks count for the innermost one.
"""

import sys
import time
from _thread import get_ident
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from ..errors import InputError
from ..schema.stage import STAGES, Stage
from ..schema.steps import Flag

T = TypeVar("T")
R = TypeVar("R")

_DATALOADER = STAGES.index(Stage.DATALOADER)
_OTHER = STAGES.index(Stage.OTHER)

ROW_WIDTH = 3 + len(STAGES) + 2
"""Integers a closed step appends: start, end, six stages, samples, flags, bits of marked stages."""
SEGMENT_WIDTH = 4
"""Integers a segment appends: step, stage, start, end."""

_ALWAYS_SAMPLED = 64
_SEGMENTS_A_STEP = 256


class Sink(Protocol):
    """Takes what the clock has gathered; called between steps, never within one."""

    def __call__(self, rows: "array[int]", segments: "array[int]", steps: int) -> None:
        """Keep or drop the gathered integers; `steps` counts all closed steps so far."""


def is_sampled(step: int) -> bool:
    """Whether the segments of this step are kept: all of the first 64, then 32 an octave.

    A million steps keep 512, without a random draw and without knowing the length before.
    """
    if step < _ALWAYS_SAMPLED:
        return True
    return step % (1 << (step.bit_length() - 6)) == 0


class Mark:
    """Context manager of one stage; may be nested and used again."""

    __slots__ = ("_clock", "_index")

    def __init__(self, clock: "StageClock", index: int) -> None:
        self._clock = clock
        self._index = index

    def __enter__(self) -> None:
        self._clock.enter(self._index)

    def __exit__(self, *_: object) -> None:
        self._clock.leave()


class StageClock:
    """Times steps and their stages; hands closed steps to a sink once a period.

    Belongs to the thread that iterates `steps`: marks from other threads are ignored, since
    the stage says where *that* thread is. Draws no random number and waits for no device.

    Args:
        sink: takes the gathered rows between steps; its time falls into no step.
        now: monotonic clock in ns; tests give a fake one.
        warmup: how many first steps are flagged `WARMUP`.
        period_ns: longest time between two calls of the sink while steps go by.
        capacity: most steps gathered before the sink is called.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        now: Callable[[], int] = time.perf_counter_ns,
        warmup: int = 0,
        period_ns: int = 500_000_000,
        capacity: int = 4096,
    ) -> None:
        self._sink = sink
        self._now = now
        self._warmup = warmup
        self._period_ns = period_ns
        self._capacity_items = capacity * ROW_WIDTH
        self._rows = array("q")
        self._segments = array("q")
        self._due = 0
        self._thread = 0
        self._open = False
        self._step = 0
        self._flags = 0
        self._start = 0
        self._since = 0
        self._current = _OTHER
        self._stack: list[int] = []
        self._totals = [0] * len(STAGES)
        self._marked = 0
        self._log: array[int] | None = None
        self.sink_ns = 0
        """Time spent in the sink so far: what recording cost outside the steps."""
        self.foreign_steps = 0
        """Iterations asked for by another thread while this one was recording."""
        self._marks = {stage.value: Mark(self, index) for index, stage in enumerate(STAGES)}
        self._frames = {stage.value: _named_frame(stage) for stage in STAGES}

    @property
    def count(self) -> int:
        """Steps closed so far."""
        return self._step

    def stage(self, name: str) -> Mark:
        """The mark of a stage, for a `with` statement; outside a step it does nothing.

        Raises:
            InputError: no such stage.
        """
        try:
            return self._marks[name]
        except KeyError:
            raise unknown_stage(name) from None

    def call(self, name: str, function: Callable[..., R], *args: Any) -> R:
        """The result of `function(*args)`, marked, under a frame that stack samplers can see.

        A context manager leaves no frame behind; this leaves `profkit_stage_<name>`.
        """
        with self.stage(name):
            result: R = self._frames[name](function, *args)
        return result

    def steps(self, iterable: Iterable[T], *, warmup: int = 0) -> "Steps[T]":
        """The batches of `iterable`; each request opens a step and closes the one before.

        Args:
            iterable: a loader or anything else that gives batches; made an iterator anew,
                outside the steps, each time that the result is iterated.
            warmup: how many first steps of *each* iteration are flagged `WARMUP`.
        """
        return Steps(self, iterable, warmup)

    def enter(self, index: int) -> None:
        """Make a stage the current one."""
        if get_ident() != self._thread:
            return
        now = self._now()
        current = self._current
        self._totals[current] += now - self._since
        if self._log is not None:
            self._log_segment(current, now)
        self._stack.append(current)
        self._current = index
        self._since = now
        self._marked |= 1 << index

    def leave(self) -> None:
        """Go back to the stage before."""
        if get_ident() != self._thread or not self._stack:
            return
        now = self._now()
        current = self._current
        self._totals[current] += now - self._since
        if self._log is not None:
            self._log_segment(current, now)
        self._current = self._stack.pop()
        self._since = now

    def flag(self, flag: Flag) -> None:
        """Say what is special about the open step."""
        self._flags |= flag.value

    def flush(self) -> None:
        """Hand what has been gathered to the sink."""
        began = self._now()
        if self._rows:
            rows, self._rows = self._rows, array("q")
            segments, self._segments = self._segments, array("q")
            self._sink(rows, segments, self._step)
        ended = self._now()
        self._due = ended + self._period_ns
        self.sink_ns += ended - began

    def _log_segment(self, stage: int, now: int) -> None:
        log = self._log
        if log is not None and now > self._since:
            log.extend((self._step, stage, self._since, now))

    def _open_step(self, start: int, flags: int) -> None:
        self._totals[:] = (0, 0, 0, 0, 0, 0)
        self._start = self._since = start
        self._flags = flags | Flag.WARMUP.value if self._step < self._warmup else flags
        self._current = _DATALOADER
        self._marked = 1 << _DATALOADER
        self._log = array("q") if is_sampled(self._step) else None
        self._open = True

    def _batch_came(self) -> None:
        now = self._now()
        self._totals[_DATALOADER] += now - self._since
        if self._log is not None:
            self._log_segment(_DATALOADER, now)
        self._current = _OTHER
        self._since = now

    def _close_step(self, end: int, samples: int) -> None:
        totals = self._totals
        totals[self._current] += end - self._since
        if self._log is not None:
            self._log_segment(self._current, end)
            # A loop of thousands of tiny marks would make the sample unbounded.
            if len(self._log) <= _SEGMENTS_A_STEP * SEGMENT_WIDTH:
                self._segments.extend(self._log)
            self._log = None
        self._rows.extend((self._start, end, *totals, samples, self._flags, self._marked))
        self._since = end
        self._step += 1
        self._open = False

    def _leave_loop(self) -> None:
        """The loop ended; a step that is still open got no batch and is none."""
        self._open = False
        self._log = None
        self._thread = 0


class Steps(Generic[T]):
    """An iterable of batches that marks the steps; as long as what it wraps."""

    def __init__(self, clock: StageClock, iterable: Iterable[T], warmup: int) -> None:
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
        clock = self._clock
        if clock._thread not in (0, get_ident()):
            clock.foreign_steps += 1
            yield from iterator
        elif clock._open:
            yield from self._iterate_within(iterator)
        else:
            yield from self._iterate_outermost(iterator)

    def _iterate_within(self, iterator: Iterator[T]) -> Generator[T, None, None]:
        """Another loader inside an open step: its waits are data wait of that step."""
        enter, leave = self._clock.enter, self._clock.leave
        while True:
            enter(_DATALOADER)
            try:
                batch = next(iterator)
            except StopIteration:
                return
            finally:
                leave()
            yield batch

    def _iterate_outermost(self, iterator: Iterator[T]) -> Generator[T, None, None]:
        clock = self._clock
        now = clock._now
        depth = len(clock._stack)
        clock._thread = get_ident()
        flags = Flag.BLOCK_START.value
        warm = self._warmup
        start = now()
        if not clock._due:
            clock._due = start + clock._period_ns
        try:
            while True:
                clock._open_step(start, flags | Flag.WARMUP.value if warm > 0 else flags)
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
                clock._batch_came()
                samples = batch_size(batch)
                try:
                    yield batch
                except GeneratorExit:
                    # break, or an exception in the body: no next request closes this step.
                    clock.flag(Flag.PARTIAL)
                    clock._close_step(now(), samples)
                    raise
                del batch
                start = now()
                clock._close_step(start, samples)
                del clock._stack[depth:]
                flags = 0
                warm -= 1
                if start >= clock._due or len(clock._rows) >= clock._capacity_items:
                    clock.flush()
                    start = now()
        finally:
            clock._leave_loop()


def batch_size(batch: object) -> int:
    """Length of the first tensor in a batch, -1 where there is none to see."""
    leaf: Any = batch
    try:
        for _ in range(4):
            if isinstance(leaf, (tuple, list)):
                leaf = leaf[0]
            elif isinstance(leaf, dict):
                leaf = next(iter(leaf.values()))
            else:
                return int(leaf.shape[0])
    except Exception:  # a user's batch may be anything; recording must not break on it
        return -1
    return -1


def unknown_stage(name: object) -> InputError:
    """The error for a stage that is none."""
    known = ", ".join(stage.value for stage in STAGES)
    return InputError(f"unknown stage {name!r}: use one of {known}")


def _named_frame(stage: Stage) -> Callable[..., Any]:
    def call(function: Callable[..., R], *args: Any) -> R:
        return function(*args)

    name = f"profkit_stage_{stage.value}"
    changes = {"co_name": name}
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = name  # what py-spy shows since then
    call.__code__ = call.__code__.replace(**changes)  # type: ignore[arg-type]
    return call
