"""Endless trainings with many knobs: `python -m experiments.what_if.program --data sleep`.

They are the user's programs, and know nothing of any profiler.
"""

import argparse
import ctypes
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Subset,
    default_collate,
)

from profkit.workloads.models import WORKLOADS

MNIST_SAMPLES = 10_240
SAMPLES = 1_200
ENDLESS = 1_000_000_000
WIDTH = 16


def spin(ms: float) -> None:
    """Compute for so long: it takes longer where others have the core."""
    end = time.thread_time_ns() + int(1e6 * ms)
    while time.thread_time_ns() < end:
        pass


def sleep(ms: float) -> None:
    time.sleep(ms / 1e3)


PAY: dict[str, Callable[[float], None]] = {"spin": spin, "sleep": sleep}


class Blur:
    """A transform of known cost."""

    def __init__(self, pay: str, ms: float) -> None:
        self._pay, self._ms = pay, ms

    def __call__(self, x: Tensor) -> Tensor:
        if self._ms:
            PAY[self._pay](self._ms)
        return x


class Items(Dataset[tuple[Tensor, int]]):
    """Samples of known cost: the same for each, or drawn.

    Args:
        given: see `options`.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self._pay, self._ms = given.data, given.fetch_ms
        self._sigma, self._late = given.sigma, given.late_ms
        self.transform = Blur(given.data, given.blur_ms)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        chance = random.Random(index)
        PAY[self._pay](self._ms * chance.lognormvariate(0, self._sigma))
        if self._late and index % 400 == 0:
            PAY[self._pay](self._late)
        return self.transform(torch.full((WIDTH,), index / SAMPLES)), index % 10


class Spinning(nn.Module):
    """A model of known cost."""

    def __init__(self, ms: float) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, 10)
        self._ms = ms

    def forward(self, x: Tensor) -> Tensor:
        spin(self._ms)
        scores: Tensor = self.layer(x)
        return scores


def options() -> argparse.ArgumentParser:
    """The knobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=("spin", "sleep", "mnist"), default="mnist")
    parser.add_argument("--model", choices=("spin", "fastmlp", "cnn"), default="spin")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--prefetch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--fetch-ms", type=float, default=0.5)
    parser.add_argument("--blur-ms", type=float, default=0.0)
    parser.add_argument("--forward-ms", type=float, default=4.0)
    parser.add_argument("--sigma", type=float, default=0.0)
    parser.add_argument("--late-ms", type=float, default=0.0)
    parser.add_argument("--no-normalize", action="store_true")
    parser.add_argument("--keep-freed", action="store_true")
    return parser


def dataset(given: argparse.Namespace) -> Any:
    if given.data != "mnist":
        return Items(given)
    from profkit.workloads.mnist import open_dataset
    from profkit.workloads.mnist_files import locate

    whole = open_dataset(locate(None, allow_download=True), train=True)
    if given.no_normalize:
        whole.transform.transforms.pop()
    return Subset(whole, range(MNIST_SAMPLES))


def batches(given: argparse.Namespace) -> Iterator[Any]:
    """Without end, from a loader or from memory."""
    data = dataset(given)
    order = RandomSampler(data, replacement=True, num_samples=ENDLESS)
    if given.memory:
        samples = [data[i] for i in range(len(data))]
        columns = [default_collate(list(column)) for column in zip(*samples, strict=True)]
        for rows in BatchSampler(order, given.batch, drop_last=True):
            yield [column[rows] for column in columns]
    workers: dict[str, Any] = {"num_workers": given.workers}
    if given.workers:
        workers["prefetch_factor"] = given.prefetch
    yield from DataLoader(data, given.batch, sampler=order, **workers)


def keep_freed() -> None:
    """Have glibc's malloc keep what is freed; see mallopt(3)."""
    option = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3
    if not (option(mmap_threshold, 32 << 20) and option(trim_threshold, 1 << 30)):
        raise RuntimeError("the C library refuses it")


def main() -> None:
    given = options().parse_args()
    if given.keep_freed:
        keep_freed()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    loss_of: Callable[..., Tensor] = nn.functional.cross_entropy
    if given.model == "spin":
        model: nn.Module = Spinning(given.forward_ms)
        optimizer: torch.optim.Optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    else:
        kind = WORKLOADS[given.model]
        model, loss_of = kind.model(), kind.loss
        optimizer = kind.optimizer(model.parameters())
    for x, y in batches(given):
        loss_of(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
