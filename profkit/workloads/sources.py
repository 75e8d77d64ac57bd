"""What feeds a program: a DataLoader or memory, with the same batches in the same order."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from .mnist import MEAN, MNIST, STD

PREFETCH = 2
"""Batches that each loader worker makes ahead; torch's own default."""


class EpochShuffle(Sampler[int]):
    """Indices in an order that depends on seed and epoch alone; each iteration is an epoch.

    Nothing is drawn from the global random stream.
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._count

    def permutation(self) -> Tensor:
        """The next epoch's order: (count,) int64."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        self._epoch += 1
        return torch.randperm(self._count, generator=generator)

    def __iter__(self) -> Iterator[int]:
        return iter(self.permutation().tolist())


def dataloader_source(
    dataset: MNIST,
    batch_size: int,
    num_workers: int,
    seed: int,
    *,
    pin_memory: bool = False,
    worker_init_fn: Callable[[int], None] | None = None,
) -> "DataLoader[Any]":
    """The baseline: a shuffled DataLoader; the ragged last batch is kept."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochShuffle(len(dataset), seed),
        num_workers=num_workers,
        prefetch_factor=PREFETCH if num_workers else None,
        pin_memory=pin_memory,
        worker_init_fn=worker_init_fn,
        # Its own, or it would draw the workers' seed from the global stream.
        generator=torch.Generator().manual_seed(seed),
    )


def resident(dataset: MNIST) -> tuple[Tensor, Tensor]:
    """All images, (n, 1, 28, 28) float32, and labels, (n,) int64, decoded.

    Equal to the bit to what the dataset's transforms give: uint8 / 255, less the mean, over the
    standard deviation, in float32.
    """
    images = dataset.data.unsqueeze(1).to(torch.float32).div_(255).sub_(MEAN).div_(STD)
    return images, dataset.targets


class MemorySource:
    """The whole set as one tensor on the device, sliced into the same batches.

    Args:
        dataset: MNIST, whose raw images are taken.
        batch_size: images.
        seed: of the order.
        device: where the tensors lie.
    """

    def __init__(self, dataset: MNIST, batch_size: int, seed: int, device: str = "cpu") -> None:
        images, labels = resident(dataset)
        self.images: Tensor = images.to(device)
        self.labels: Tensor = labels.to(device)
        self._batch_size = batch_size
        self._order = EpochShuffle(len(dataset), seed)

    def __len__(self) -> int:
        return -(-len(self._order) // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order.permutation()
        if self.images.is_cuda:
            # From pageable memory the copy would wait for the device.
            order = order.pin_memory()
        return self._batches(order.to(self.images.device, non_blocking=True))

    def _batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.split(order, self._batch_size):
            yield self.images[rows], self.labels[rows]
