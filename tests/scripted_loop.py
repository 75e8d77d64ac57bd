"""A training loop that reports to a clock what hooks would, on a fake time, without torch."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from conftest import FakeTime, Gathered
from profkit.probe.loop_clock import LoopClock
from profkit.probe.partition import LEAVE
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag


class Module:
    """What a clock asks of a module."""

    def parameters(self) -> Iterator[Any]:
        return iter(())


class ScriptedLoop:
    """Calls a clock as the wrappers of `probe.hooks` do; every duration is said."""

    def __init__(self, **settings: Any) -> None:
        self.time = FakeTime()
        self.kept = Gathered()
        self.clock = LoopClock(self.kept, now=self.time, **settings)

    # What a script does -----------------------------------------------------------------------

    def loader(self, batches: Iterable[Any], wait_ns: int = 0) -> Iterator[Any]:
        """A loader's iterator; one that is dropped is told to the clock, as hooks do."""

        def paced() -> Iterator[Any]:
            for batch in batches:
                self.time.pass_ns(wait_ns)
                yield batch
            self.time.pass_ns(wait_ns)  # what it takes to find that there is none

        return self.clock.watch(paced())

    def forward(self, ns: int = 0) -> None:
        with self.marked(Stage.FORWARD, owns=True) as counts:
            if counts:
                self.clock.forwards += 1
            self.time.pass_ns(ns)

    def backward(self, ns: int = 0) -> None:
        with self.marked(Stage.BACKWARD, owns=True, trains=True):
            self.time.pass_ns(ns)

    def optimize(self, ns: int = 0, key: int = 1, body: Callable[[], None] | None = None) -> None:
        def step() -> None:
            with self.marked(Stage.OPTIMIZER, trains=True):
                self.time.pass_ns(ns)
                if body is not None:
                    body()

        if self.clock.is_headless and not self.clock.busy and self.clock.claim():
            self.clock.optimize(key, step)
        else:
            step()

    def train(self, forward: int = 0, backward: int = 0, optimizer: int = 0, key: int = 1) -> None:
        self.forward(forward)
        self.backward(backward)
        self.optimize(optimizer, key)

    @contextmanager
    def marked(self, stage: Stage, *, owns: bool = False, trains: bool = False) -> Iterator[bool]:
        clock = self.clock
        if clock.busy or not (clock.claim_by_training() if trains else clock.claim()):
            yield False
            return
        if trains:
            clock.trainings += 1
        if not clock.step_is_open:
            clock.begin()
        clock.busy = owns
        clock.push((STAGES.index(stage), self.time()))
        try:
            yield True
        finally:
            clock.push((LEAVE, self.time()))
            clock.busy = clock.stopped

    # What is seen -----------------------------------------------------------------------------

    @property
    def flags(self) -> list[Flag]:
        """The flags of every closed step."""
        self.clock.flush()
        return [Flag(flag) for flag in self.kept.steps.flags.tolist()]

    @property
    def step_ns(self) -> list[int]:
        """How long every closed step took."""
        self.clock.flush()
        return self.kept.steps.step_ns.tolist()

    @property
    def samples(self) -> list[int]:
        """The batch size of every closed step."""
        self.clock.flush()
        return self.kept.steps.samples.tolist()

    @property
    def waits_ns(self) -> list[int] | None:
        """How long every closed step waited for other ranks; None where none were watched."""
        self.clock.flush()
        waits = self.kept.steps.collective_wait_ns
        return None if waits is None else waits.tolist()

    @property
    def rows(self) -> list[list[int | None]]:
        """Nanoseconds per stage of every closed step; None for what was not marked."""
        self.clock.flush()
        steps = self.kept.steps
        return [
            [ns if seen else None for ns, seen in zip(*row, strict=True)]
            for row in zip(steps.stage_ns.tolist(), steps.marked.tolist(), strict=True)
        ]
