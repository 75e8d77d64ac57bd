"""Explicit stage marks: a clock that gives every nanosecond of a step to exactly one stage.

This is the hot path. Beside training the processor's caches are cold, and what counts is how
little is done: a mark appends what happened and when to one list. Between steps, once a period,
the list is partitioned into steps and stages (`probe.partition`) and handed on.
"""

import sys
import time
from _thread import RLock, get_ident
from array import array
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from ..errors import InputError
from ..schema.stage import STAGES, Stage
from ..schema.steps import Flag, MarkTable, StepTable
from .partition import BEGIN, LEAVE, OPEN, is_close, partition
from .steps import Steps

T = TypeVar("T")
R = TypeVar("R")


class Sink(Protocol):
    """Takes what the clock has gathered; called between steps, never within one."""

    def __call__(self, steps: StepTable, marks: MarkTable) -> None:
        """Keep or drop the closed steps, and the segments of those that are sampled."""


class Listener(Protocol):
    """Told what the clock does, for a pass that shows the marks to a profiler as well."""

    def step_opens(self, step: int) -> int:
        """A step is about to open; gives the moment at which it does, in ns."""

    def batch_came(self) -> None:
        """The wait for the batch is over."""

    def stage_begins(self, index: int) -> None:
        """A mark is about to be entered."""

    def stage_ends(self) -> None:
        """The innermost mark was left."""

    def step_closes(self) -> None:
        """The step is about to close."""

    def loop_ends(self) -> None:
        """No further step: one that was opened got no batch and is none."""


class Witness(Protocol):
    """Told, in the loop's thread, what a few steps in between are looked at for."""

    def batch_came(self) -> None:
        """The wait for the batch is over."""

    def step_closed(self, flags: int) -> None:
        """The step is over; what is special about it."""


class Mark:
    """Context manager of one stage; may be nested and used again."""

    __slots__ = ("_clock", "_index", "_now", "_push")

    def __init__(self, clock: "StageClock", index: int) -> None:
        self._clock = clock
        self._index = index
        self._now = clock._now
        self._push = clock._push

    def __enter__(self) -> None:
        if get_ident() == self._clock.thread:
            self._push((self._index, self._now()))

    def __exit__(self, *_: object) -> None:
        if get_ident() == self._clock.thread:
            self._push((LEAVE, self._now()))


class _ToldMark(Mark):
    """A mark that tells the clock's listener."""

    __slots__ = ("_listener",)

    def __init__(self, clock: "StageClock", index: int, listener: Listener) -> None:
        super().__init__(clock, index)
        self._listener = listener

    def __enter__(self) -> None:
        if get_ident() == self._clock.thread:
            self._listener.stage_begins(self._index)
        super().__enter__()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if get_ident() == self._clock.thread:
            self._listener.stage_ends()


class _Marks(dict[str, Mark]):
    def __missing__(self, name: str) -> Mark:
        raise unknown_stage(name)


class StageClock:
    """Times steps and their stages; hands closed steps to a sink once a period.

    Belongs to the thread that iterates `steps`: marks from other threads are ignored, since
    the stage says where *that* thread is. Nested marks count for the innermost one. Draws no
    random number and waits for no device.

    Args:
        sink: takes the closed steps; its time falls into no step.
        now: monotonic clock in ns; tests give a fake one.
        warmup: how many first steps are flagged `WARMUP`.
        period_ns: longest time between two calls of the sink while steps go by.
        capacity: most integers gathered before the sink is called: about 20 a step.
        listener: told about steps and marks, outside of what they time.

    Attributes:
        stage: gives the mark of a stage, for a `with` statement; outside a step the mark does
            nothing. Raises `InputError` for what is no stage.
        noted: events of the steps handed on so far.
        sink_ns: time spent on handing steps on: what recording cost outside of them.
        foreign_steps: loops that another thread ran while this one was recording.
        thread: the one that the loop runs in, 0 while there is none.
        watches_collectives: whether waits for other ranks are noted, so that none means 0.
        inner_batches: batches asked for inside the steps of another loop.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        now: Callable[[], int] = time.perf_counter_ns,
        warmup: int = 0,
        period_ns: int = 500_000_000,
        capacity: int = 65_536,
        listener: Listener | None = None,
    ) -> None:
        self._sink = sink
        self._now = now
        self._warmup = warmup
        self._period_ns = period_ns
        self._capacity = capacity
        self._listener = listener
        # Pairs of what happened and when, see `partition`. Never replaced: the marks hold on to
        # its `extend`.
        self._events: list[int] = []
        self._push = self._events.extend
        self._handed_on = 0
        self._due = 0
        # Held while the list is cut: not every flush happens in the thread of the loop. A signal
        # or the garbage collector may call again from within one.
        self._cutting = RLock()
        self._flushing = False
        self.watches_collectives = False
        self.thread = 0
        self._flags = 0
        self.sink_ns = 0
        self.noted = 0
        self.foreign_steps = 0
        self.inner_batches = 0
        # The dictionary's own method: a look-up without a Python call.
        self.stage: Callable[[str], Mark] = _Marks(
            (stage.value, self._make_mark(index)) for index, stage in enumerate(STAGES)
        ).__getitem__
        self._frames = {stage.value: named_frame(stage) for stage in STAGES}

    @property
    def count(self) -> int:
        """Steps closed so far."""
        return self._handed_on + sum(map(is_close, self._events[::2]))

    def _make_mark(self, index: int) -> Mark:
        if self._listener is None:
            return Mark(self, index)
        return _ToldMark(self, index, self._listener)

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

    def flag(self, flag: Flag) -> None:
        """Say what is special about the open step."""
        self._flags |= flag.value

    def flush(self) -> None:
        """Hand the closed steps to the sink; what a call from within the sink finds waits."""
        began = self._now()
        with self._cutting:
            closed = 0 if self._flushing else self._closed()
            if closed:
                self._flushing = True
                try:
                    self._hand_on(closed)
                finally:
                    self._flushing = False
        ended = self._now()
        self._due = ended + self._period_ns
        self.sink_ns += ended - began

    def _hand_on(self, closed: int) -> None:
        events = array("q", self._events[:closed])
        steps, marks = partition(events, self._handed_on, collectives=self.watches_collectives)
        count = len(steps)
        # Not before: a signal's handler may raise within all this, and the loop go on.
        del self._events[:closed]
        self._handed_on += count
        self.noted += closed // 2
        self._sink(steps, marks)

    @property
    def is_open(self) -> bool:
        """Whether a loop over `steps` goes on, or was left without being closed."""
        return self.thread != 0

    def _shed(self) -> None:
        """Forget the marks of a step that does not end, but for its opening."""
        with self._cutting:
            # Its own thread goes on meanwhile: what comes from now on stays.
            end = len(self._events)
            start = self._closed()
            while start < end and self._events[start] not in (OPEN, BEGIN):
                start += 2
            del self._events[start + 4 : end]
        self.flag(Flag.PARTIAL)

    def _drop_open(self) -> None:
        """Forget the step that is open: one that got no batch is none."""
        with self._cutting:
            if not self._flushing:
                del self._events[self._closed() :]

    def _closed(self) -> int:
        """How many of the events belong to closed steps."""
        end = len(self._events)
        while end and not is_close(self._events[end - 2]):
            end -= 2
        return end


def unknown_stage(name: object) -> InputError:
    """The error for a stage that is none."""
    known = ", ".join(stage.value for stage in STAGES)
    return InputError(f"unknown stage {name!r}: use one of {known}")


def named_frame(stage: Stage) -> Callable[..., Any]:
    """A function that calls its first argument, under a frame that is named after a stage."""

    def call(function: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
        return function(*args, **kwargs)

    name_frame(call, stage)
    return call


def name_frame(function: Any, stage: Stage) -> None:
    """Let stack samplers see a Python function under the name of a stage."""
    name = f"profkit_stage_{stage.value}"
    changes = {"co_name": name}
    if sys.version_info >= (3, 11):
        changes["co_qualname"] = name  # what py-spy shows since then
    function.__code__ = function.__code__.replace(**changes)
