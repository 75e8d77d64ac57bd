"""Trainings to tune: `python -m experiments.tune.program fastmlp`.

They are the user's programs, and know nothing of any profiler.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from experiments.mnist.networks import DigitNet
from experiments.mnist.rungs import LADDER
from experiments.mnist.train import make_optimizer
from profkit.workloads.models import WORKLOADS
from profkit.workloads.sources import resident

SAMPLES = 60_000
ENDLESS = 10_000
"""Epochs."""


class Files(Dataset[tuple[Tensor, int]]):
    """Samples that wait for a file, and then compute a little."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        time.sleep(0.5e-3)
        return torch.full((784,), index / SAMPLES), index % 10


class Drawn(Dataset[tuple[Tensor, int]]):
    """Samples that depend on chance."""

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = torch.full((784,), index / SAMPLES)
        for _ in range(8):
            x = x + 0.01 * torch.randn(784)
        return x, index % 10


def mnist() -> Any:
    from profkit.workloads.mnist import open_dataset
    from profkit.workloads.mnist_files import locate

    return open_dataset(locate(None, allow_download=True), train=True)


def loader(data: Any, batch: int, workers: int = 0) -> Iterator[Any]:
    batches = DataLoader(data, batch, shuffle=True, num_workers=workers)
    for _ in range(ENDLESS):
        yield from batches


def in_memory(batch: int) -> Iterator[Any]:
    """MNIST as one tensor, sliced."""
    x, y = resident(mnist())
    for _ in range(ENDLESS):
        for rows in torch.randperm(len(x)).split(batch):
            yield x[rows], y[rows]


def fast_mlp(batches: Iterator[Any]) -> tuple[nn.Module, Any, torch.optim.Optimizer, Any]:
    kind = WORKLOADS["fastmlp"]
    model = kind.model()
    return model, kind.loss, kind.optimizer(model.parameters()), batches


def cnn(batches: Iterator[Any]) -> tuple[nn.Module, Any, torch.optim.Optimizer, Any]:
    kind = WORKLOADS["cnn"]
    model = kind.model()
    return model, kind.loss, kind.optimizer(model.parameters()), batches


def last_rung() -> tuple[nn.Module, Any, torch.optim.Optimizer, Any]:
    recipe = LADDER.rungs[-1].recipe
    model = DigitNet(recipe.network)
    optimizer = make_optimizer(recipe.optimizer, model)
    return model, F.cross_entropy, optimizer, in_memory(recipe.data.batch_size)


PROGRAMS: dict[str, Callable[[], tuple[nn.Module, Any, torch.optim.Optimizer, Any]]] = {
    "fastmlp": lambda: fast_mlp(loader(mnist(), 512)),
    "fastmlp-2-workers": lambda: fast_mlp(loader(mnist(), 512, workers=2)),
    "cnn": lambda: cnn(loader(mnist(), 64)),
    "last-rung": last_rung,
    "files": lambda: fast_mlp(loader(Files(), 32)),
    "drawn": lambda: fast_mlp(loader(Drawn(), 128)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=PROGRAMS)
    given = parser.parse_args()
    torch.manual_seed(0)
    model, loss_of, optimizer, batches = PROGRAMS[given.program]()
    for x, y in batches:
        loss_of(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
