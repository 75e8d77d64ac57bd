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

from .augmenting import augmented, sample_transform
from .networks import SIDE, middle
from .recipe import Augment, Data, Source

VALIDATION = 10_000
"""The last training images: those that constants are chosen on, in place of the test images."""
SAMPLE = 5_000
"""Images that are looked at before training."""


class Batches(Protocol):
    """Batches `(images, labels)`; each iteration is an epoch."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Feed:
    """What a training is fed with.

    Attributes:
        train, test: batches to train on and to test on.
        test_count: images that are tested.
        sample: some images that are trained on, (n, 1, side, side), as they are before they are
            changed at random; None where none lie ready.
    """

    train: Batches
    test: Batches
    test_count: int
    sample: Tensor | None = None


class Resident:
    """Batches sliced out of tensors that lie on the device.

    Args:
        images, labels: all of them.
        batch_size: images.
        order: draws each epoch's order; None: as they lie.
        drop_last: whether a last batch that is not full is left out.
        augment: of each batch.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        batch_size: int,
        order: torch.Generator | None = None,
        *,
        drop_last: bool = False,
        augment: Augment | None = None,
    ) -> None:
        self._augment = augment or Augment()
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
                yield self._batch(slice(start, min(start + self._batch_size, self._count)))
            return
        order = torch.randperm(len(self._images), generator=self._order)
        order = order.to(self._images.device)
        for start in starts:
            yield self._batch(order[start : min(start + self._batch_size, self._count)])

    def _batch(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        return augmented(self._images[rows], self._augment), self._labels[rows]


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
        if not data.is_normalized:
            raise ValueError("data.is_normalized False: resident data is normalised")
        images, labels = (column[:count] for column in resident(train))
        images = middle(images, data.side).contiguous()
        if not data.reshuffle:
            drawn = torch.randperm(count, generator=order)
            images, labels = images[drawn], labels[drawn]
        test_images, test_labels = (column[tested] for column in resident(test))
        test_images = middle(test_images, data.side).contiguous()
        return Feed(
            _Watched(
                Resident(
                    images.to(device),
                    labels.to(device),
                    data.batch_size,
                    order if data.reshuffle else None,
                    drop_last=data.drop_last,
                    augment=data.augment,
                )
            ),
            Resident(test_images.to(device), test_labels.to(device), data.test_batch_size),
            len(test_images),
            images[:SAMPLE],
        )
    if data.side != SIDE:
        raise ValueError(f"data.side {data.side}: only resident data is cut")
    if not data.reshuffle:
        raise ValueError("data.reshuffle False: a DataLoader draws a new order in each epoch")
    train.transform = sample_transform(data, is_trained_on=True)
    test.transform = sample_transform(data, is_trained_on=False)
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
