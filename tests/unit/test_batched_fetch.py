"""Whole batches out of datasets: the same to the bit, or refused with a reason."""

import os
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from profkit.probe.batched_fetch import BatchedFetch
from profkit.probe.fixes import AppliedFixes
from profkit.probe.memory_data import NotSameError
from profkit.probe.replacements import Replacements
from profkit.schema.fix import FixOrder, Knob

X = torch.arange(120.0).reshape(40, 3)
Y = torch.arange(40) % 7


class Rows(Dataset[Any]):
    """Of the user's own; counts how often it is asked."""

    asked = 0

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: Any) -> Any:
        self.asked += 1
        return {"x": X[i], "y": Y[i]}


class Arrays(Rows):
    def __getitem__(self, i: Any) -> Any:
        return X.numpy()[i], Y.numpy()[i]


def same(one: Any, other: Any) -> bool:
    leaves, spec = torch.utils._pytree.tree_flatten(one)
    others, same_spec = torch.utils._pytree.tree_flatten(other)
    return spec == same_spec and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(leaves, others, strict=True)
    )


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(X, Y),
        Subset(TensorDataset(X, Y), range(5, 35)),
        Subset(Subset(TensorDataset(X, Y), list(range(39, -1, -1))), torch.arange(3, 30).tolist()),
        Rows(),
        Arrays(),
    ],
)
def test_the_batches_are_the_same_to_the_bit(dataset: Any) -> None:
    batched = BatchedFetch(dataset, default_collate)
    rows = [3, 17, 3, 0, 22]
    assert same(batched.fetch(rows), default_collate([dataset[i] for i in rows]))


class OneByOne(Rows):
    def __getitem__(self, i: int) -> Any:
        return X[i], int(Y[i])


class Shifted(Rows):
    """Takes a list, and means something else by it."""

    def __getitem__(self, i: Any) -> Any:
        return X[i] if isinstance(i, int) else X[[(j + 1) % 40 for j in i]]


class Drawn(Rows):
    def __getitem__(self, i: Any) -> Any:
        return X[i] + torch.rand(3)


class Whole(Rows):
    def __getitems__(self, rows: list[int]) -> Any:
        return [self[i] for i in rows]


class Named(Rows):
    def __getitem__(self, i: Any) -> Any:
        return "a name"


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([X[0]])


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (OneByOne(), "takes no list of indices"),
        (Shifted(), "gives another batch"),
        (Drawn(), "drawn by chance"),
        (Whole(), "whole batches already"),
        (Named(), "not made of tensors"),
        (Stream(), "no length"),
        (TensorDataset(X[:0]), "empty"),
    ],
)
def test_what_cannot_be_fetched_in_batches_says_why(dataset: Any, reason: str) -> None:
    with pytest.raises(NotSameError, match=reason):
        BatchedFetch(dataset, default_collate)


def named(samples: list[Any]) -> Any:
    """Gives what the dataset itself has no names for."""
    whole = default_collate(samples)
    return {"x": whole[0], "y": whole[1]}


def test_what_only_the_collate_function_gives_a_structure_is_refused() -> None:
    with pytest.raises(NotSameError, match="gives another batch"):
        BatchedFetch(TensorDataset(X, Y), named)
    BatchedFetch(TensorDataset(X, Y), lambda samples: tuple(default_collate(samples)))


def flip(samples: list[Any]) -> Any:
    """Draws, though nothing comes of it here."""
    return default_collate(samples[:: 1 if float(torch.rand(())) < 2 else -1])


def test_a_way_to_put_samples_together_that_is_drawn_by_chance_is_refused() -> None:
    before = torch.get_rng_state()
    with pytest.raises(NotSameError, match="put together, are drawn by chance"):
        BatchedFetch(TensorDataset(X, Y), flip)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_random_number_is_drawn() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr,index]
    BatchedFetch(TensorDataset(X, Y), default_collate)
    after = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # type: ignore[union-attr,index]
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]


def batches(dataset: Any, settings: dict[str, Any], **loading: Any) -> tuple[list[Any], Any]:
    space: dict[str, Any] = {"__name__": "user"}
    exec(compile("def make(kind, *a, **k):\n    return kind(*a, **k)\n", "site.py", "exec"), space)
    hooks = Replacements()
    applied = AppliedFixes(FixOrder(settings, loader="site.py:2"))
    applied.install(hooks)
    try:
        torch.manual_seed(0)
        loader = space["make"](DataLoader, dataset, batch_size=8, shuffle=True, **loading)
        return list(loader), applied.facts(applied.number_of(loader))
    finally:
        hooks.put_back()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="workers are forked")
def test_a_loader_gives_the_same_batches(workers: int) -> None:
    context = {"multiprocessing_context": "fork"} if workers else {}
    loading: dict[str, Any] = {"num_workers": workers, **context}
    dataset = Rows()
    base, _ = batches(dataset, {}, **loading)
    found, facts = batches(dataset, {Knob.FETCH.value: None}, **loading)
    assert facts.failures == {}
    assert all(same(one, other) for one, other in zip(base, found, strict=True))


def test_a_loader_asks_once_a_batch() -> None:
    dataset = Rows()
    found, _ = batches(dataset, {Knob.FETCH.value: None})
    checked = dataset.asked
    dataset.asked = 0
    batches(dataset, {Knob.FETCH.value: None})
    assert len(found) == 5
    assert dataset.asked == checked
    BatchedFetch(dataset, default_collate)
    assert dataset.asked == 2 * checked - 5  # five batches, five calls


def test_workers_that_are_spawned_are_left_alone() -> None:
    loading = {"num_workers": 1, "multiprocessing_context": "spawn"}
    hooks = Replacements()
    applied = AppliedFixes(FixOrder({Knob.FETCH.value: None}, loader=__file__ + ":0"))
    applied.install(hooks)
    try:
        loader: Any = DataLoader(TensorDataset(X), **loading)  # type: ignore[arg-type]
        with pytest.raises(NotSameError, match="forked"):
            applied._loaders._fetch_in_batches(loader)
    finally:
        hooks.put_back()
