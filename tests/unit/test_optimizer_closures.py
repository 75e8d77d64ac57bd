from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from conftest import FakeTime, Gathered
from profkit.probe.hooks import Hooks
from profkit.probe.loop_clock import LoopClock


class SlowSGD(torch.optim.SGD):
    time: FakeTime

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        self.time.pass_ns(30)
        return found


class StepsOnModules(torch.optim.SGD):
    """Its step takes something else that can be called."""

    def step(self, module: nn.Module) -> None:  # type: ignore[override]
        assert isinstance(module, nn.Linear)
        super().step()


@pytest.fixture
def clock(fake_time: FakeTime, gathered: Gathered) -> Iterator[LoopClock]:
    clock = LoopClock(gathered, now=fake_time)
    hooks = Hooks(clock)
    hooks.install()
    try:
        yield clock
    finally:
        hooks.uninstall()
    assert not hooks.gaps


@pytest.mark.parametrize("by_name", [True, False])
def test_what_a_closure_does_beside_forward_and_backward_is_not_the_optimizers(
    by_name: bool, clock: LoopClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    SlowSGD.time = fake_time
    net = nn.Linear(2, 1)
    optimizer = SlowSGD(net.parameters(), 0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = net(torch.ones(2)).sum()
        loss.backward()
        fake_time.pass_ns(7)  # logging, say
        return loss

    for _ in clock.watch(iter(range(3))):
        loss = optimizer.step(closure=closure) if by_name else optimizer.step(closure)
        assert isinstance(loss, torch.Tensor)
    clock.end()
    assert gathered.steps.stage_ns.tolist() == [[0, 0, 0, 0, 30, 7]] * 3
    # Forward and backward were seen, and took nothing on this clock.
    assert gathered.steps.marked[:, 2:5].all()


def test_only_closures_are_wrapped(clock: LoopClock) -> None:
    net = nn.Linear(2, 1)
    optimizer = StepsOnModules(net.parameters(), 0.1)
    for _ in clock.watch(iter(range(2))):
        net(torch.ones(2)).sum().backward()
        optimizer.step(net)
