"""Real training loops under hooks, on a fake time: who takes how long is said, not measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from conftest import FakeTime, Gathered
from profkit.probe.hooks import Hooks
from profkit.probe.loop_clock import LoopClock
from profkit.schema.stage import STAGES
from profkit.schema.steps import Flag

FETCH, FORWARD, BACKWARD, STEP = 7, 11, 13, 17
"""What a sample, a forward, a backward and an optimizer's step take, in ns."""

TIME = FakeTime()


class Observed:
    """What hooks saw until now."""

    def __init__(self, clock: LoopClock, kept: Gathered, hooks: Hooks) -> None:
        self.clock = clock
        self.hooks = hooks
        self._kept = kept

    @property
    def rows(self) -> list[list[int | None]]:
        """Nanoseconds per stage of every step; None for what was not marked."""
        self.clock.flush()
        steps = self._kept.steps
        return [
            [ns if seen else None for ns, seen in zip(*row, strict=True)]
            for row in zip(steps.stage_ns.tolist(), steps.marked.tolist(), strict=True)
        ]

    @property
    def seen(self) -> list[str]:
        """The initials of the stages that every step has; `other` always is."""
        initials = "dtfbo"
        return [
            "".join(letter for letter, ns in zip(initials, row, strict=False) if ns is not None)
            for row in self.rows
        ]

    @property
    def flags(self) -> list[Flag]:
        """The flags of every step."""
        self.clock.flush()
        return [Flag(flag) for flag in self._kept.steps.flags.tolist()]

    @property
    def samples(self) -> list[int]:
        """The batch size of every step."""
        self.clock.flush()
        return self._kept.steps.samples.tolist()


@contextmanager
def hooked(**settings: Any) -> Iterator[Observed]:
    """Hooks on a clock of fake time, until the end of the block."""
    kept = Gathered()
    clock = LoopClock(kept, now=TIME, **settings)
    hooks = Hooks(clock)
    hooks.install()
    assert hooks.gaps == []
    try:
        yield Observed(clock, kept, hooks)
    finally:
        clock.end()
        hooks.uninstall()


class _Slow(torch.autograd.Function):
    """The identity, whose backward takes its time."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        TIME.pass_ns(BACKWARD)
        return gradient


class Net(nn.Module):
    """A model that takes its time, forth and back."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        TIME.pass_ns(FORWARD)
        return _Slow.apply(self.inner(value))


class SlowSGD(torch.optim.SGD):
    """An optimizer that takes its time."""

    def step(self, closure: Any = None) -> Any:
        TIME.pass_ns(STEP)
        return super().step(closure)


class Samples(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Samples that take their time."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        TIME.pass_ns(FETCH)
        return torch.full((3,), float(index)), torch.tensor(index % 2)


def stage(name: str) -> int:
    """The column of a stage."""
    return [each.value for each in STAGES].index(name)
