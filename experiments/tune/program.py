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
from torch.utils.data import DataLoader, Dataset, default_collate

from profkit.workloads.models import WORKLOADS

SAMPLES = 60_000
ENDLESS = 10_000
"""Epochs."""


class LastRung(nn.Module):
    """The network of the ladder's last rung: pooling before relu, a first kernel of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 5)
        self.conv2 = nn.Conv2d(24, 32, 3)
        self.fc1 = nn.Linear(800, 256)
        self.fc2 = nn.Linear(256, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)


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


def resident(batch: int) -> Iterator[Any]:
    """MNIST as one tensor, sliced: a few thousand images do."""
    data = mnist()
    samples = [data[i] for i in range(8_192)]
    x, y = (default_collate(list(column)) for column in zip(*samples, strict=True))
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
    model = LastRung()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
    return model, F.nll_loss, optimizer, resident(256)


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
