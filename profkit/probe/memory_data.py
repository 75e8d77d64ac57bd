"""A dataset decoded once and kept in memory: batches are slices of it.

Only where that gives the same batches to the bit: samples must not depend on chance, and putting
them together must not depend on which ones they are.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils.data import IterableDataset

from ..interruption import pass_on

CHUNK = 512
"""Samples that are put together at a time while the data is decoded."""
PROBED = 16
"""Samples that are fetched twice to see whether they depend on chance."""

AGAIN_SHARE = 0.01
"""Of all samples, how many are fetched again at the beginning of each later epoch."""

_MOST_WRAPPED = 100
"""Datasets within datasets that are looked at."""


class NotSameError(Exception):
    """Why a dataset would not give the same batches in another way, in words."""


class MemoryData:
    """A dataset's samples, decoded and collated.

    Args:
        dataset: with a length.
        collate: puts samples together.
        most_bytes: that it may take.
        deadline: by `time.monotonic`, until when it must be decoded.

    Raises:
        NotSameError: it cannot be kept, see there.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Callable[[list[Any]], Any],
        most_bytes: int,
        deadline: float,
    ) -> None:
        self._leaves: list[torch.Tensor] = []
        self._spec: Any = None
        self._collate = collate
        self._checks = 0
        count = length_of(dataset)
        _refuse_epochs(dataset)
        with without_chance():
            refuse_chance(dataset, count)
            self._decode(dataset, count, most_bytes, deadline)
            self._check(dataset, count)

    @property
    def size_bytes(self) -> int:
        """Of the tensors."""
        return sum(leaf.nbytes for leaf in self._leaves)

    @property
    def is_checked_again(self) -> bool:
        """Whether samples were held against the dataset in a later epoch."""
        return self._checks > 0

    def check_again(self, dataset: Any) -> None:
        """See that the dataset still gives what is kept: another epoch may have begun.

        The first time all `PROBED` samples; later a share of them, others each time, since it
        takes time from what is measured.

        Raises:
            NotSameError: it does not.
        """
        count = len(self._leaves[0])
        most = PROBED if not self._checks else max(1, min(PROBED, int(AGAIN_SHARE * count)))
        self._checks += 1
        rows = [(self._checks + i * count // most) % count for i in range(most)]
        with without_chance():
            if not equal(self.fetch(rows), self._collate([dataset[i] for i in rows])):
                raise NotSameError("samples change from epoch to epoch")

    def fetch(self, index: Sequence[int]) -> Any:
        """The batch of these samples."""
        rows = torch.as_tensor(index)
        return pytree.tree_unflatten([leaf[rows] for leaf in self._leaves], self._spec)

    def _decode(self, dataset: Any, count: int, most_bytes: int, deadline: float) -> None:
        began = time.monotonic()
        for rows in _chunks(count):
            now = time.monotonic()
            # Told as soon as it can be: half as long again may be noise.
            is_known = rows.start >= CHUNK
            needed = (now - began) / rows.start * (count - rows.start) / 1.5 if is_known else 0.0
            if now + needed > deadline:
                raise NotSameError(
                    f"decoding the dataset takes too long: {rows.start} of {count} samples in "
                    f"{now - began:.0f} s"
                )
            leaves, spec = pytree.tree_flatten(self._collate([dataset[i] for i in rows]))
            if not leaves or not all(
                isinstance(leaf, torch.Tensor) and leaf.ndim and leaf.shape[0] == len(rows)
                for leaf in leaves
            ):
                raise NotSameError("a batch is not made of tensors with a row for each sample")
            if not rows.start:
                self._make_room(leaves, spec, count, most_bytes)
            elif spec != self._spec or _kinds(leaves) != _kinds(self._leaves):
                raise NotSameError("batches differ in shape")
            for whole, leaf in zip(self._leaves, leaves, strict=True):
                whole[rows.start : rows.stop] = leaf

    def _make_room(
        self, leaves: list[torch.Tensor], spec: Any, count: int, most_bytes: int
    ) -> None:
        """Once, for all samples: parts that are put together later would take twice as much."""
        needed = sum(leaf[0].nbytes for leaf in leaves) * count
        if needed > most_bytes:
            raise NotSameError(
                f"decoded it takes {needed / 1e9:.1f} GB, more than the {most_bytes / 1e9:.1f} "
                "that are free for it"
            )
        self._spec = spec
        self._leaves = [leaf.new_empty((count, *leaf.shape[1:])) for leaf in leaves]

    def _check(self, dataset: Any, count: int) -> None:
        rows = [(7 * i * i + 3 * i) % count for i in range(PROBED)]
        if not equal(self.fetch(rows), self._collate([dataset[i] for i in rows])):
            raise NotSameError("slices of it differ from the batches that the loader makes")


def _chunks(count: int) -> Iterator[range]:
    """Rows that are decoded together: few at first, to see what they take."""
    start, size = 0, PROBED
    while start < count:
        yield range(start, min(count, start + size))
        start, size = start + size, CHUNK


def _kinds(leaves: Sequence[torch.Tensor]) -> list[tuple[Any, ...]]:
    """What rows of tensors must have in common."""
    return [(leaf.dtype, leaf.device, *leaf.shape[1:]) for leaf in leaves]


def length_of(dataset: Any) -> int:
    """How many samples a dataset has.

    Raises:
        NotSameError: it does not know, or they have no numbers.
    """
    try:
        count = len(dataset)
    except (TypeError, NotImplementedError):
        raise NotSameError("the dataset has no length") from None
    if isinstance(dataset, IterableDataset):
        raise NotSameError("the dataset is a stream: its samples have no numbers")
    return count


def _refuse_epochs(dataset: Any) -> None:
    """See that samples do not depend on the epoch, as far as that can be told beforehand.

    Raises:
        NotSameError: they seem to; it is told an epoch, or is one that wraps such a dataset.
    """
    waiting = [dataset]
    met: set[int] = set()
    while waiting and len(met) < _MOST_WRAPPED:
        one = waiting.pop()
        met.add(id(one))
        epoch = getattr(one, "epoch", None)
        # Shared between processes, it has a value.
        if hasattr(one, "set_epoch") or isinstance(getattr(epoch, "value", epoch), int):
            raise NotSameError(
                f"samples may change from epoch to epoch: {type(one).__name__} is told the epoch"
            )
        parts = getattr(one, "datasets", None)  # of a `ConcatDataset`
        inner = [getattr(one, "dataset", None)]  # of a `Subset`
        inner += parts if isinstance(parts, list | tuple) else []
        waiting += [part for part in inner if part is not None and id(part) not in met]


@contextmanager
def without_chance() -> Iterator[None]:
    """See that nothing draws from a random stream; leave them all as they were.

    Raises:
        NotSameError: something did.
    """
    before = _chance()
    try:
        yield
        if not equal(_chance(), before):
            raise NotSameError(
                "samples, or the way that they are put together, are drawn by chance: a random "
                "transform"
            )
    finally:
        _restore(before)


def refuse_chance(dataset: Any, count: int) -> None:
    """See that samples do not depend on chance.

    Raises:
        NotSameError: they do.
    """
    rows = range(0, count, max(1, count // PROBED))
    before = _chance()
    first = [dataset[i] for i in rows]
    if not equal(_chance(), before):
        raise NotSameError("its samples are drawn by chance: a random transform")
    if not all(equal(one, dataset[i]) for one, i in zip(first, rows, strict=True)):
        raise NotSameError("a sample differs each time that it is fetched")


def _chance() -> tuple[Any, ...]:
    """The state of all random streams that a transform may draw from."""
    return torch.get_rng_state(), random.getstate(), np.random.get_state()


def _restore(state: tuple[Any, ...]) -> None:
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])


def equal(one: Any, other: Any) -> bool:
    """Whether two samples or batches are the same to the bit."""
    these, spec = pytree.tree_flatten(one)
    those, same = pytree.tree_flatten(other)
    if spec != same:
        return False
    return all(_same(a, b) for a, b in zip(these, those, strict=True))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    try:
        return bool(one == other)
    except Exception as error:  # whatever compares in its own way
        pass_on(error)
        return bool(repr(one) == repr(other))
