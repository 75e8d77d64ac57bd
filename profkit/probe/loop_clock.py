"""A stage clock for loops that say nothing: their steps are told from what they do.

Hooks (`probe.hooks`) report requests for batches, forwards, backwards and optimizer steps; this
decides which of them open and close a step. Also the hot path: see `probe.marks`.
"""

import time
from _thread import get_ident
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ..interruption import pass_on
from ..schema.stage import STAGES, Stage
from ..schema.steps import Flag
from .batch_size import batch_sizer
from .marks import Listener, Sink, StageClock, Witness
from .partition import BATCH, BEGIN, LEAVE, OPEN, WAIT, WAITED, close_event

T = TypeVar("T")

_DATALOADER = STAGES.index(Stage.DATALOADER)
_CLOSING = close_event(0, 0)
_PER_SAMPLE = close_event(1, 0) - _CLOSING

MOST_REQUESTS = 1_024
"""Requests without any work between them that still make one step: batches fetched ahead, or a
whole accumulation at once. A loop of more only reads data."""
MOST_ROUNDS = 64
"""Batches that a loop within a step may train on before it counts as the training loop itself,
and the iterator around it as one that was left lying."""
MOST_TRAININGS = 4 * MOST_ROUNDS
"""Backward passes and optimizer steps on one batch, after which its iterator counts as left lying
(to train on one batch for ever is how models are debugged), unless it comes back."""
MOST_MODULES = 10_000
"""Modules remembered by identity; a script may make a new loss module in every step."""


@dataclass(slots=True)
class _Inner:
    """Another iterator that is asked within the steps of the one that opens them."""

    step: int
    began_ns: int
    forwards: int
    trainings: int
    batches: int = 0
    rounds: int = 0
    trainings_asked: int = 0


class LoopClock(StageClock):
    """Opens and closes steps by itself.

    A step goes from one request of the outermost iterator to its next one; without a loader,
    from the end of one optimizer step to that of the next. Requests with nothing done between
    them belong together. Steps that train nothing are flagged as evaluation.

    Args:
        sink, now, warmup, period_ns, capacity, listener: see `StageClock`; `warmup` counts steps
            that train.
        enough: told once, between two steps, when `limit` steps after the warm-up were seen.
        limit: None for no end.
        between: called between two steps once a period, after a flush, in the loop's thread.

    Attributes:
        busy: whether the loop is in a stage that owns whatever is called from it (forward,
            backward, a wait for data): hooks then pass straight through.
        forwards, trainings: outermost calls of modules, and backward passes and optimizer steps.
        serial: number of the step that was opened last.
        step_is_open: whether what happens now is part of a step.
        is_headless: whether no loader opens the steps, so that optimizers close them.
        device: type of device that the model is on, None while no model was called.
        compiling_ns, compilations: what torch.compile took, and how often.
        evaluation_ns, evaluation_batches: what evaluations within training steps took; to the end
            of the step where nobody told that one was over.
        foreign_trainings, foreign_requests: backward passes, and requests for batches, in other
            threads than the loop's.
        training_loop: key of the iterator whose batches were trained on last, 0 before the first.
        making: whether an iterator is being made that may itself fetch from others.
        witness: told when a batch came and when its step closed.
        is_spent: told a key, says whether that iterator gave all that it has, though nobody has
            asked it for its end yet.
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
        limit: int | None = None,
        enough: Callable[[], None] = lambda: None,
        between: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            sink, now=now, warmup=warmup, period_ns=period_ns, capacity=capacity, listener=listener
        )
        self.listener = listener
        self.now = now
        self.push = self._push
        self.busy = self.stopped = False
        self.forwards = 0
        self.trainings = 0
        self.step_is_open = False
        self.is_headless = True
        self.modules: set[int] = set()
        self.device: str | None = None
        self.compilations = self.compiling_ns = 0
        self.evaluation_batches = self.evaluation_ns = 0
        self.foreign_trainings = 0
        self.foreign_requests = 0
        self.trained_steps = self.disturbed_steps = 0
        self.training_loop = 0
        self.making = False
        self.witness: Witness | None = None
        self.is_spent: Callable[[int], bool] = lambda key: False
        self._compiling_since = 0
        self._limit = None if limit is None else warmup + limit
        self._enough = enough
        self._between = between
        # When that is due. Loops that end hand their steps on as well, which may be more often.
        self._rest_ns = 0
        self._put_off = False
        self._sticky = 0
        self._owner = 0
        self.serial = 0
        self._first = False
        self._requests = 0
        self._forwards_opened = self._trainings_opened = 0
        self._serial_began = self._forwards_began = self._trainings_began = 0
        self._size: Callable[[Any], int] | None = None
        self._samples = -1
        self._adds = False
        self._inner: dict[int, _Inner] = {}
        self.trained_modules: set[int] = set()
        self._evaluated_step = -2
        self._optimizers: set[int] = set()
        self._closer = self._others = 0
        self._left = self._believed = 0

    # Which thread -----------------------------------------------------------------------------

    def claim(self) -> bool:
        """Whether this thread is the loop's; the first one that does anything is."""
        if self.thread == 0:
            self.thread = get_ident()
        return self.thread == get_ident()

    def claim_by_training(self) -> bool:
        """The same for a thread that trains: it takes the loop over from one that never did."""
        if not self.claim():
            if self.trainings:
                self.foreign_trainings += 1
                return False
            # Another thread fetched or evaluated first; where training happens is the loop.
            self._abandon()
            self.thread = get_ident()
        return True

    def stop(self) -> None:
        """See nothing from now on."""
        self.busy = self.stopped = True
        self.step_is_open = False

    # Requests ---------------------------------------------------------------------------------

    def ask(self, key: int) -> bool | None:
        """The next batch of an iterator is asked for, which may open a step.

        Args:
            key: identity of the iterator; tell `release` when it is gone.

        Returns:
            What `got` and `got_none` want to be told: whether the request belongs to a step that
            is open already. None where nothing is observed, and nothing need be told.
        """
        if self.busy:
            return None
        if get_ident() != self.thread and not self.claim():
            self.foreign_requests += 1
            return None
        if key == self._owner and (
            self.forwards != self._forwards_opened
            or self.trainings != self._trainings_opened
            or self._requests >= MOST_REQUESTS
        ):
            self._close(0)
            if self.stopped:
                return None
            self._requests = 1
            self._open(OPEN)
            within = False
        else:
            within = self._ask_otherwise(key)
        self.busy = True
        return within

    def got(self, batch: object, within: bool) -> None:
        """The batch is there."""
        self.busy = self.stopped
        if within:
            self._leave()
            if self._adds:
                self._add(batch)
            return
        if self.witness is not None:
            self.witness.batch_came()
        self.push((BATCH, self.now()))
        if self.listener is not None:
            self.listener.batch_came()
        if self._first:
            self._size = batch_sizer(batch)
        if self._size is not None:
            try:
                self._samples = self._size(batch)
            except Exception as error:  # a user's batch may be anything, and unlike the first
                pass_on(error)
                self._size, self._samples = None, -1

    def got_none(self, key: int, within: bool) -> None:
        """The iterator is at its end, or failed."""
        self.busy = self.stopped
        if within:
            self._leave()
        self.release(key, exhausted=True)

    def _add(self, batch: object) -> None:
        """One more batch of the loop itself within its step."""
        if self._size is not None:
            try:
                self._samples += self._size(batch)
            except Exception as error:  # likewise
                pass_on(error)
                self._size, self._samples = None, -1

    def watch(
        self, iterator: Iterator[T], meet: Callable[[int], None] = lambda key: None
    ) -> Generator[T, Any, Any]:
        """The batches of any iterator, with the requests for them observed.

        Args:
            iterator: gives the batches.
            meet: told the key under which they are requested.
        """
        token = object()
        key = id(token)
        meet(key)
        fetch, get = self._frames[Stage.DATALOADER.value], iterator.__next__
        sent = None  # generators may be told something with a request
        try:
            while True:
                asked = self.ask(key)
                try:
                    batch = fetch(get) if sent is None else fetch(cast(Any, iterator).send, sent)
                    if asked is not None:
                        self.got(batch, asked)
                except BaseException as error:
                    if asked is not None:
                        self.busy = self.stopped  # before any call: a handler may raise in it
                        self.got_none(key, asked)
                    if isinstance(error, StopIteration):
                        return error.value
                    raise
                sent = yield batch
                del batch
        finally:
            self.release(key)

    def release(self, key: int, *, exhausted: bool = False) -> None:
        """An iterator gave its last batch, or was given up: a `break`, or an exception."""
        if self.stopped or self.thread != get_ident():
            return
        if key == self._owner:
            if exhausted:
                self._abandon()
            else:
                # Often by a finalizer, out of which nothing could raise: writing waits.
                self._close(Flag.PARTIAL.value, rests=False)
                self._end_loop()
        elif (inner := self._inner.pop(key, None)) is not None:
            inner.batches -= exhausted  # the last request got none
            self._judge(inner)

    def starts_workers(self, key: int) -> None:
        """Loader workers start: whatever step is open is not only itself."""
        if self.busy and not self.making:
            return
        if self.thread != get_ident() or not self.step_is_open:
            return
        if key == self._owner:  # a persistent iterator begins anew: its last step has no end
            self._close(Flag.PARTIAL.value)
            self._end_loop()
        elif self._owner == 0:
            self._abandon()
        else:
            self.flag(Flag.INTERRUPTED)

    def make(self, iterate: Callable[[Any], T], loader: Any) -> T:
        """The iterator over a loader; what it fetches when it is made belongs to no step."""
        self.busy = self.making = True
        try:
            return iterate(loader)
        finally:
            self.making = False
            self.busy = self.stopped

    @property
    def is_waiting(self) -> bool:
        """Whether the request that opened a step goes on, in this thread."""
        return self.busy and self.thread == get_ident() and self._events[-2:-1] == [OPEN]

    def restart(self) -> None:
        """The request that opened a step begins only now: until now, workers started."""
        if self.is_waiting and self.listener is None:
            self._events[-1] = self.now()

    def _ask_otherwise(self, key: int) -> bool:
        """Note a request that is not just the loop's next; whether a step was open already."""
        if self._owner != 0 and self.step_is_open:
            if key != self._owner:
                return self._ask_within(key)
            self._requests += 1
            self._adds = True
            self._enter()
            return True
        # A step without a loader that is open is none: nobody will close it.
        self._abandon()
        if self._put_off:
            self._rest()
        if key == self._left:
            self._believed = key
        self._owner = key
        self.is_headless = False
        self._first = True
        self._serial_began = self.serial
        self._forwards_began, self._trainings_began = self.forwards, self.trainings
        self._requests = 1
        self._open(OPEN)
        return False

    def _ask_within(self, key: int) -> bool:
        inner = self._inner.get(key)
        if inner is None or inner.step != self.serial:
            began = self.now()
            inner = _Inner(self.serial, began, self.forwards, self.trainings)
            inner.trainings_asked = self.trainings
            self._inner[key] = inner
        if inner.trainings_asked != self.trainings:
            inner.trainings_asked = self.trainings
            inner.rounds += 1
            if inner.rounds > MOST_ROUNDS or self._only_evaluates(inner):
                self._close(Flag.PARTIAL.value)
                self._end_loop()
                return self._ask_otherwise(key)
        inner.batches += 1
        self._adds = False
        self._enter()
        return True

    def _only_evaluates(self, inner: _Inner) -> bool:
        """Whether the loop that opens the steps had none that trained before an inner one began.

        It went round at least once, or will not: an evaluation whose iterator was left lying.
        """
        if inner.trainings != self._trainings_began or inner.forwards == self._forwards_began:
            return False
        return self.serial - self._serial_began > 1 or self.is_spent(self._owner)

    def _judge(self, inner: _Inner) -> None:
        """A loop over another loader has ended: was it an evaluation?"""
        evaluated = self.forwards != inner.forwards and self.trainings == inner.trainings
        if inner.step == self.serial and evaluated and self._interrupts():
            self.evaluation_batches += inner.batches
            self.evaluation_ns += self.now() - inner.began_ns
            inner.step = -1

    def _interrupts(self) -> bool:
        """Whether an evaluation in this step is none of its business, and the step flagged."""
        if self._evaluated_step != self.serial:
            # What happens in every step is part of it, such as a model that labels its own data.
            if self._evaluated_step != self.serial - 1:
                self.flag(Flag.INTERRUPTED)
            self._evaluated_step = self.serial
        return bool(self._flags & Flag.INTERRUPTED.value)

    # Work -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Something is done outside of any step: without a loader, this opens the first one."""
        if self._put_off:
            self._rest()
        self._first = True
        self._open(BEGIN)
        # When it really began, nobody saw.
        self.flag(Flag.PARTIAL)

    def meet(self, module: Any) -> None:
        """A module is called from outside any module for the first time."""
        if len(self.modules) >= MOST_MODULES:
            self.modules.clear()
        self.modules.add(id(module))
        if self.device is None:
            try:
                self.device = next(module.parameters()).device.type
            except Exception as error:  # a module may have parameters of its own kind
                pass_on(error)

    def evaluates(self, module: Any) -> None:
        """A module in evaluation mode is called while no gradients are kept."""
        if id(module) in self.trained_modules:
            self._interrupts()

    def trains(self, module: Any) -> None:
        """A module in training mode is called."""
        if len(self.trained_modules) >= MOST_MODULES:
            self.trained_modules.clear()
        self.trained_modules.add(id(module))

    def optimize(self, key: int, step: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """The result of an optimizer's step, without a loader: its end closes the step.

        Of several optimizers the one that joined last does: it ends the round. One that is
        called by another one closes nothing.
        """
        owner, self.is_headless = self._owner, False
        try:
            result = step(*args, **kwargs)
        finally:
            self.is_headless = self._owner in (0, owner)
        # A closure may have gone through a loader, whose end left no step open.
        if not self.is_headless or not self.step_is_open or self.stopped:
            return result
        flags = 0
        if owner != 0:
            if not self._is_left():
                self.is_headless = False
                return result
            self._left, flags = owner, Flag.PARTIAL.value
        elif key not in self._optimizers:
            self._optimizers.add(key)
            self._closer = key
        elif key != self._closer:
            self._others += 1
            if self._others <= MOST_ROUNDS:
                return result
            self._closer, flags = key, Flag.PARTIAL.value
        self._others = 0
        self._close(flags)
        if owner != 0:
            self._end_loop()
            self._first = True
        if not self.stopped:
            self._open(BEGIN)
        return result

    def _is_left(self) -> bool:
        """Whether nobody seems to ask the iterator any more that opened the step."""
        trainings = self.trainings - self._trainings_opened
        return self._owner not in (0, self._believed) and trainings > MOST_TRAININGS

    def waits_for_ranks(self) -> None:
        """From now to the next event the host waits for other ranks."""
        if self.thread == get_ident() and self.step_is_open:
            self.push((WAIT, self.now()))

    def waited_for_ranks(self) -> None:
        """The wait is over, and nothing else begins."""
        if self.thread == get_ident() and self.step_is_open:
            self.push((WAITED, self.now()))

    def compilation_begins(self) -> None:
        """torch.compile is at work: the step that is open is warm-up."""
        if self.stopped:
            return
        self._compiling_since = self.now()
        if self.thread == get_ident():
            self.flag(Flag.COMPILED)

    def compilation_ends(self) -> None:
        """torch.compile is done."""
        if self.stopped:
            return
        self.compilations += 1
        self.compiling_ns += self.now() - self._compiling_since

    # Steps ------------------------------------------------------------------------------------

    def disturb(self, disturbed: bool) -> None:
        """Whether a sampler is at work from this step on."""
        self._sticky = Flag.DISTURBED.value if disturbed else 0

    def end(self) -> None:
        """The program is over: what is open is no step, and what was closed is handed on."""
        if self._owner != 0 and self.step_is_open:
            self._close(Flag.PARTIAL.value)
        self.stop()
        self._drop_open()
        self.flush()

    def beat(self) -> None:
        """What must happen while no step ends; called now and then, from any thread."""
        if self._due and self.now() > self._due + self._period_ns // 5:
            self.flush()
        if self.step_is_open and self._is_left():
            self.is_headless = True  # the end of an optimizer's step will see to it
        # The marks of a step that does not end would fill the memory.
        if len(self._events) > 4 * self._capacity and self.step_is_open:
            self._shed()

    def _enter(self) -> None:
        if self.listener is not None:
            self.listener.stage_begins(_DATALOADER)
        self.push((_DATALOADER, self.now()))

    def _leave(self) -> None:
        self.push((LEAVE, self.now()))
        if self.listener is not None:
            self.listener.stage_ends()

    def _open(self, event: int) -> None:
        start = self.now()
        if self.listener is not None:
            start = self.listener.step_opens(self.count)
            if event == BEGIN:
                self.listener.batch_came()
        self._flags = 0
        self._samples = -1
        self.serial += 1
        self._forwards_opened, self._trainings_opened = self.forwards, self.trainings
        # In one go, as where a step closes: a signal's handler may raise after any call.
        self.step_is_open = True
        self.push((event, start))
        if event == BEGIN and self.witness is not None:
            self.witness.batch_came()

    def _close(self, flags: int, *, rests: bool = True) -> None:
        if not self.step_is_open:
            return
        if self.listener is not None:
            self.listener.step_closes()
        if self._inner:
            # What is given up later, or never, is judged now.
            for inner in list(self._inner.values()):
                self._judge(inner)
        end = self.now()
        flags |= self._flags | self._sticky
        if self._first:
            flags |= Flag.BLOCK_START.value
            self._first = False
        if self.trainings == self._trainings_opened:
            flags |= Flag.EVALUATION.value
        else:
            if self.trained_steps < self._warmup:
                flags |= Flag.WARMUP.value
            self.trained_steps += 1
            self.disturbed_steps += self._sticky != 0
            self.training_loop = self._owner or self.training_loop
        self.step_is_open = False
        self.push((_CLOSING + flags + self._samples * _PER_SAMPLE, end))
        if self.witness is not None:
            self.witness.step_closed(flags)
        if self._rest_ns == 0:
            self._rest_ns = self._due = end + self._period_ns
        is_enough = self.trained_steps == self._limit
        is_due = end >= self._rest_ns or len(self._events) >= self._capacity
        if is_enough or (rests and is_due):
            self._rest()
        elif is_due:
            self._put_off = True
        if is_enough:
            self.stop()
            self._enough()

    def _rest(self) -> None:
        """What is due between two steps."""
        self._put_off = False
        self.flush()
        self._rest_ns = self._due
        self._between()

    def _abandon(self) -> None:
        """Forget what is open, and the loop that it belongs to."""
        self.step_is_open = False
        self._drop_open()
        self._end_loop()

    def _end_loop(self) -> None:
        self.step_is_open = False
        self._owner = 0
        self.is_headless = True
        self._size = None
        self._inner.clear()
        if self.listener is not None:
            self.listener.loop_ends()
