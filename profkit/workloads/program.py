"""A built-in training program: one loop that can be stopped after any step and go on."""

from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..probe.marks import StageClock
from ..schema.steps import Flag
from .models import Workload


class Source(Iterable[Any], Sized, Protocol):
    """Batches `(x, y)` of one epoch; each iteration is the next epoch."""


class Program:
    """A model, its optimizer and what feeds them.

    The model is made from the seed without touching the global random stream.

    Args:
        workload: what to train.
        source: batches, one epoch an iteration.
        device: `cpu` or `cuda`; batches that are elsewhere are copied to it.
        seed: of the model's first weights.
    """

    def __init__(self, workload: Workload, source: Source, device: str, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model: nn.Module = workload.model().to(device)
        self.optimizer = workload.optimizer(self.model.parameters())
        self.source = source
        self.last_loss: Tensor | None = None
        self.loss = workload.loss
        self.device = device
        self._device = torch.device(device)
        self._batches: Iterator[Any] = iter(())
        self.left_in_epoch = 0

    def feed_from(self, source: Source) -> None:
        """Go on training from another source, at its start."""
        self.source = source
        self.stop_feeding()

    def stop_feeding(self) -> None:
        """Give up the rest of the epoch, and the loader's workers with it."""
        self._batches = iter(())
        self.left_in_epoch = 0

    def begin_epoch(self) -> None:
        """Make the next epoch's iterator; loader workers start here, outside any step."""
        self.stop_feeding()
        self._batches = iter(self.source)
        self.left_in_epoch = len(self.source)

    def skip(self, count: int) -> None:
        """Take batches of this epoch without training on them."""
        for _ in islice(self._batches, count):
            self.left_in_epoch -= 1

    def run(
        self,
        clock: StageClock,
        count: int,
        *,
        warmup: int = 0,
        after_step: Callable[[], None] | None = None,
    ) -> int:
        """Train for at most `count` steps, and not beyond the epoch's end.

        Args:
            clock: marks steps and stages.
            count: steps.
            warmup: how many first ones are flagged as warm-up.
            after_step: called within each step, at its end.

        Returns:
            Steps done; 0 only if `count` is.
        """
        if self.left_in_epoch == 0:
            self.begin_epoch()
        count = min(count, self.left_in_epoch)
        on_cuda = self._device.type == "cuda"
        done = 0
        for x, y in clock.steps(islice(self._batches, count), warmup=warmup):
            if x.device.type != self._device.type:
                x, y = clock.call("transfer", copy_batch, x, y, self._device)
            loss = clock.call("forward", _forward, self.model, self.loss, x, y)
            clock.call("backward", loss.backward)
            clock.call("optimizer", _update, self.optimizer)
            self.last_loss = loss.detach()
            done += 1
            if after_step is not None:
                after_step()
            if on_cuda and done == count:
                # Kernels still queued belong to this block, not to whatever runs next.
                torch.cuda.synchronize()
                clock.flag(Flag.DRAIN)
        self.left_in_epoch -= done
        return done


def copy_batch(x: Tensor, y: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """The batch on the device; the host does not wait for a copy from pinned memory."""
    return x.to(device, non_blocking=True), y.to(device, non_blocking=True)


def _forward(model: nn.Module, loss: Callable[..., Tensor], x: Tensor, y: Tensor) -> Tensor:
    return loss(model(x), y)


def _update(optimizer: torch.optim.Optimizer) -> None:
    optimizer.step()
    optimizer.zero_grad()
