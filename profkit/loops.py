"""Training loops that profkit runs itself: a step, its loader, and the bench that times them."""

import inspect
import math
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from . import terms
from .errors import InputError
from .probe.step_clock import StepClock
from .schema.steps import Flag, StepTable
from .watching import active

BLOCK_NS = 20_000_000
"""Length of a block when loops take turns. Source: FACTS of the gate's design: the spread of a
block's ratio hardly falls with its length, since the machine drifts: many short ones win."""
WORKER_BLOCK_NS = 5 * BLOCK_NS
"""The same with loader workers, whose queue each block must fill anew."""
LEAST_BLOCK_STEPS = 10
"""Steps that a low quantile needs, where that takes no more than `MOST_BLOCK_NS`."""
MOST_BLOCK_NS = 200_000_000

_at_work = threading.Lock()


class Loop:
    """A step and the batches that it is called with, again and again.

    Args:
        step: called with a batch; with the clock as well where it requires a second argument.
        loader: batches; begun anew whenever it is at its end.

    Attributes:
        spent: whether it gave no batch when it was begun anew.
    """

    def __init__(self, step: Callable[..., object], loader: Iterable[Any]) -> None:
        self.step = step
        self.loader = loader
        self.takes_clock = wants_clock(step)
        self.spent = False
        self._batches: Iterator[Any] | None = None

    @property
    def workers(self) -> int:
        """Loader workers, which go on while the loop does not."""
        return _count(self.loader, "num_workers")

    def run(self, bench: "Bench", count: int, deadline_ns: int, *, warmup: int = 0) -> StepTable:
        """Train for `count` steps, fewer where time or batches run out; one block.

        Args:
            bench: times them.
            count: steps, the warm-up among them.
            deadline_ns: see `StepClock.run_steps`.
            warmup: how many first ones are flagged.
        """
        __tracebackhide__ = True
        clock = bench.clock
        train = self._trainer(clock)
        done = 0
        try:
            while done < count and not self.spent:
                is_fresh = self._batches is None
                if self._batches is None:
                    self._batches = iter(self.loader)
                ran = clock.run_steps(
                    self._batches,
                    train,
                    count - done,
                    hooked=not self.takes_clock,
                    deadline_ns=deadline_ns,
                    warmup=max(0, warmup - done),
                )
                done += ran
                if done and clock.now() >= deadline_ns:
                    break
                if done < count:
                    self._batches = None
                    self.spent = is_fresh and ran == 0
        except BaseException:
            self._batches = None  # whatever state that is in
            raise
        table = clock.take()
        # Where a short epoch ends is no reason for a block to.
        table.flags[1:] &= ~int(Flag.BLOCK_START)
        return table

    def block(self, bench: "Bench", count: int, deadline_ns: int) -> StepTable:
        """The same beside another loop: what the workers made during its turn does not count.

        They would win a lead that the block's steps then use up. With an empty queue the first
        batch is late, so one step a worker is warm-up.
        """
        if not self.workers:
            return self.run(bench, count, deadline_ns)
        if self._batches is not None:
            for _ in range(self.workers * _count(self.loader, "prefetch_factor")):
                if next(self._batches, self) is self:
                    self._batches = None
                    break
        return self.run(bench, count + self.workers, deadline_ns, warmup=self.workers)

    def yield_cores(self) -> None:
        """Wait until the workers have filled their queue: the next turn is another loop's."""
        if self.workers:
            from .workloads.turns import wait_for_idle_workers

            wait_for_idle_workers()

    def rest(self) -> None:
        """Nothing is measured for a while: workers end."""
        if self.workers:
            self._batches = None

    def begin_anew(self) -> None:
        """Give up the rest of the epoch."""
        self._batches = None

    def block_steps(self, step_ns: float) -> int:
        """How many steps of this length make a block when loops take turns."""
        wanted = WORKER_BLOCK_NS if self.workers else BLOCK_NS
        least = min(LEAST_BLOCK_STEPS, max(2, int(MOST_BLOCK_NS / step_ns)))
        return max(least, math.ceil(wanted / step_ns))

    def _trainer(self, clock: StepClock) -> Callable[[Any], object]:
        step = self.step
        if not self.takes_clock:
            return step

        def train(batch: Any) -> object:
            __tracebackhide__ = True
            return step(batch, clock)

        return train


class Bench:
    """What times loops: one clock, and the hooks that mark the stages of steps that do not.

    Attributes:
        clock: times the steps.
        gaps: what could not be hooked here, in words.
    """

    def __init__(self, clock: StepClock, gaps: list[str]) -> None:
        self.clock = clock
        self.gaps = gaps

    def deadline_ns(self, timeout_s: float) -> int:
        """So long from now."""
        return self.clock.now() + int(timeout_s * 1e9)

    def is_over(self, deadline_ns: int) -> bool:
        """Whether that moment has come."""
        return self.clock.now() >= deadline_ns


@contextmanager
def bench(*loops: Loop) -> Iterator[Bench]:
    """Times loops while the body runs; the hooks are gone after it.

    Raises:
        InputError: the process is observed already, or another measurement goes on in it.
    """
    terms.current().refuse()
    if active() is not None:
        raise InputError(
            "this process is observed already (profkit run or profkit.observe), which would be in "
            "the times: measure without it"
        )
    if not _at_work.acquire(blocking=False):
        raise InputError("a measurement goes on in this process already: one at a time")
    try:
        with ExitStack() as undo:
            clock = StepClock(drain=_drain())
            gaps: list[str] = []
            if "torch" in sys.modules and not all(loop.takes_clock for loop in loops):
                gaps = _hook(clock, undo)
            for loop in loops:
                undo.callback(loop.rest)
            yield Bench(clock, gaps)
    finally:
        _at_work.release()


def take_turns(
    bench: Bench,
    first: tuple[Loop, int],
    second: tuple[Loop, int],
    quads: int,
    order: random.Random,
    deadline_ns: int,
) -> list[tuple[list[StepTable], list[StepTable]]]:
    """Run two loops in short blocks, in random ABBA and BAAB order.

    Args:
        bench: times them.
        first, second: a loop, and the steps of its blocks.
        quads: how many groups of four blocks.
        order: drawn from; the global random streams are left alone.
        deadline_ns: no group begins later.

    Returns:
        For each group the two blocks of the first loop and the two of the second one; groups in
        which time or batches ran out are left out.
    """
    pair = (first, second)
    # One iterator at a time is all that such a loader has.
    shared = first[0].loader is second[0].loader and bool(
        getattr(first[0].loader, "persistent_workers", False)
    )
    found: list[tuple[list[StepTable], list[StepTable]]] = []
    for _ in range(quads):
        leads = order.randrange(2)
        taken: tuple[list[StepTable], list[StepTable]] = ([], [])
        for turn in (leads, 1 - leads, 1 - leads, leads):
            loop, steps = pair[turn]
            if shared:
                loop.begin_anew()
            table = loop.block(bench, steps, deadline_ns)
            if len(table) < steps:
                return found
            loop.yield_cores()
            taken[turn].append(table)
        found.append(taken)
        if bench.is_over(deadline_ns):
            break
    return found


def wants_clock(step: Callable[..., object]) -> bool:
    """Whether a step requires a second argument."""
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature takes the batch alone
        return False
    required = [
        one
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) >= 2


def _hook(clock: StepClock, undo: ExitStack) -> list[str]:
    """Put the hooks in place, to be taken away by `undo`; what cannot be hooked here, in words."""
    from .observation import stop_in_children
    from .probe.compilation import COMPILER, watch_compilation
    from .probe.hooks import Hooks
    from .probe.import_watch import when_imported

    hooks = Hooks(clock)
    undo.callback(hooks.uninstall)
    stop_in_children(clock)
    hooks.install()
    undo.callback(
        when_imported(
            COMPILER,
            lambda module: undo.callback(watch_compilation(clock, module)),
            lambda error: hooks.gaps.append(f"compilation is not seen: {error}"),
        )
    )
    return hooks.gaps


def _drain() -> Callable[[], None] | None:
    """What waits for the device; None where torch has not used one."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    wait: Callable[[], None] = torch.cuda.synchronize
    return wait


def _count(loader: object, name: str) -> int:
    value = getattr(loader, name, None)
    return value if isinstance(value, int) else 0
