"""What feeds a training: DataLoaders, or tensors that lie on the device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

import profkit
from profkit.workloads.mnist import open_dataset
from profkit.workloads.mnist_files import DataFiles
from profkit.workloads.sources import resident

from .networks import SIDE
from .recipe import Data, Source

VALIDATION = 10_000
"""The last training images: those that constants are chosen on, in place of the test images."""


class Batches(Protocol):
    """Batches `(images, labels)`; each iteration is an epoch."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Feed:
    """Batches to train on and to test on; `test_count` is the images that are tested."""

    train: Batches
    test: Batches
    test_count: int


class Resident:
    """Batches sliced out of tensors that lie on the device.

    Args:
        images, labels: all of them.
        batch_size: images.
        order: draws each epoch's order; None: as they lie.
        drop_last: whether a last batch that is not full is left out.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        order: torch.Generator | None = None,
        *,
        drop_last: bool = False,
    ) -> None:
        self._images, self._labels = images, labels
        self._batch_size = batch_size
        self._order = order
        count = len(images)
        self._count = count - count % batch_size if drop_last else count

    def __len__(self) -> int:
        return -(-self._count // self._batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        starts = range(0, self._count, self._batch_size)
        if self._order is None:
            for start in starts:
                rows = slice(start, min(start + self._batch_size, self._count))
                yield self._images[rows], self._labels[rows]
            return
        order = torch.randperm(len(self._images), generator=self._order)
        order = order.to(self._images.device)
        for start in starts:
            rows = order[start : min(start + self._batch_size, self._count)]
            yield self._images[rows], self._labels[rows]


class _Watched:
    """Batches that profkit sees requests for, as it does a DataLoader's by itself."""

    def __init__(self, batches: Resident) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(profkit.watch(self._batches))


def open_feed(
    files: DataFiles, data: Data, *, device: torch.device, seed: int, is_validated: bool = False
) -> Feed:
    """Read the images and make what feeds a training.

    Args:
        files: MNIST.
        data: how.
        device: that is trained on.
        seed: of the order.
        is_validated: whether the last training images stand for the test images, which are not
            looked at.
    """
    train, test = (
        open_dataset(files, train=True),
        open_dataset(files, train=is_validated),
    )
    count = len(train) - VALIDATION if is_validated else len(train)
    tested = slice(count, None) if is_validated else slice(None)
    order = torch.Generator().manual_seed(seed)
    if data.source is Source.RESIDENT:
        images, labels = (column[:count] for column in resident(train))
        images = _middle(images, data.side)
        if not data.reshuffle:
            drawn = torch.randperm(count, generator=order)
            images, labels = images[drawn], labels[drawn]
        test_images, test_labels = (column[tested] for column in resident(test))
        test_images = _middle(test_images, data.side)
        return Feed(
            _Watched(
                Resident(
                    images.to(device),
                    labels.to(device),
                    data.batch_size,
                    order if data.reshuffle else None,
                    drop_last=data.drop_last,
                )
            ),
            Resident(test_images.to(device), test_labels.to(device), data.test_batch_size),
            len(test_images),
        )
    if data.side != SIDE:
        raise ValueError(f"data.side {data.side}: only resident data is cut")
    workers = data.workers
    if workers is None:
        workers = 1 if device.type == "cuda" else 0
    first: Dataset[Any] = Subset(train, range(count)) if is_validated else train
    second: Dataset[Any] = Subset(test, range(count, len(test))) if is_validated else test
    is_pinned = device.type == "cuda"
    return Feed(
        DataLoader(
            first,
            data.batch_size,
            shuffle=True,
            num_workers=workers,
            pin_memory=is_pinned,
            drop_last=data.drop_last,
            generator=order,
        ),
        DataLoader(second, data.test_batch_size, num_workers=workers, pin_memory=is_pinned),
        len(second),  # type: ignore[arg-type]  # both kinds have a length
    )


def _middle(images: Tensor, side: int) -> Tensor:
    """The middle of images (n, 1, 28, 28), as (n, 1, side, side)."""
    edge = (SIDE - side) // 2
    return images[:, :, edge : edge + side, edge : edge + side].contiguous()
