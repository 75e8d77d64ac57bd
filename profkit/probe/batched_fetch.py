"""A dataset asked for whole batches: one call with a list of indices in place of one a sample.

Only where that gives the same batches to the bit: `TensorDataset`, subsets of it, and datasets of
the user's own whose `__getitem__` takes a list because what it indexes does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree
from torch.utils.data import Subset

from ..interruption import pass_on
from .memory_data import NotSameError, equal, length_of, refuse_chance, without_chance

_CHECKED = 16
"""Samples of each batch that is fetched both ways beforehand."""


class BatchedFetch:
    """Fetches whole batches of a dataset, in the form that its samples have once collated.

    Args:
        dataset: with a length.
        collate: puts samples together.

    Raises:
        NotSameError: it cannot be fetched in batches, see there.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any]) -> None:
        self._given = dataset
        self._subsets: list[Any] = []
        count = length_of(dataset)
        while type(dataset) is Subset:
            self._subsets.append(dataset.indices)
            dataset = dataset.dataset
        if hasattr(dataset, "__getitems__"):
            raise NotSameError("the dataset fetches whole batches already")
        self._dataset = dataset
        self._spec: Any = None
        with without_chance():
            refuse_chance(self._given, count)
            for rows in _samples(count):
                self._check(rows, collate)

    def fetch(self, index: Sequence[int]) -> Any:
        """The batch of these samples."""
        leaves = [torch.as_tensor(leaf) for leaf in pytree.tree_leaves(self._rows(index))]
        return pytree.tree_unflatten(leaves, self._spec)

    def _rows(self, index: Sequence[int]) -> Any:
        """What the dataset itself gives for them."""
        rows = list(index)
        for indices in self._subsets:
            rows = [int(indices[row]) for row in rows]
        return self._dataset[rows]

    def _check(self, rows: list[int], collate: Callable[[list[Any]], Any]) -> None:
        wanted = collate([self._given[row] for row in rows])
        leaves, self._spec = pytree.tree_flatten(wanted)
        if not all(isinstance(leaf, torch.Tensor) for leaf in leaves):
            raise NotSameError("a batch is not made of tensors")
        try:
            found, plain = self.fetch(rows), self._rows(rows)
        except Exception as error:
            pass_on(error)
            raise NotSameError(
                "its samples can only be fetched one by one: `__getitem__` takes no list of "
                f"indices ({type(error).__name__})"
            ) from None
        # A loader without a batch size, as in the recipe, gives it as the dataset does.
        if not equal(found, wanted) or _outline(plain) != _outline(wanted):
            raise NotSameError(
                "its samples can only be fetched one by one: a list of indices gives another batch"
            )


def _outline(value: Any) -> Any:
    """How a batch is put together, lists and tuples alike."""
    if isinstance(value, Mapping):
        return {key: _outline(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_outline(one) for one in value]
    return None


def _samples(count: int) -> list[list[int]]:
    """Batches to check: some with a sample more than once, and one of a single sample."""
    if not count:
        raise NotSameError("the dataset is empty")
    spread = [i * count // _CHECKED for i in range(_CHECKED)]
    mixed = [(7 * i * i + 3 * i) % count for i in range(_CHECKED)]
    return [spread, mixed, [count - 1]]
