"""Recipes, run as they are printed: they give the batches of the user's own loader."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from profkit.probe.memory_data import equal
from profkit.probe.sameness import structure_of
from profkit.render.tuning import render_tuning_markdown
from profkit.schema.fix import Fix, Knob, Structure
from profkit.verify.catalogue import candidates
from tunings import findings, ground, trial

X = torch.arange(120.0).reshape(40, 3)
Y = torch.arange(40) % 7
Pair = namedtuple("Pair", "x y")


class Samples(Dataset[Any]):
    """Rows, one or many, in a structure of its own."""

    def __init__(self, take: Callable[[Any], Any]) -> None:
        self._take = take

    def __len__(self) -> int:
        return 40

    def __getitem__(self, i: Any) -> Any:
        return self._take(i)


KINDS = {
    "tensor": (Samples(lambda i: X[i]), Structure.TENSOR),
    "tuple": (Samples(lambda i: (X[i], Y[i])), Structure.TUPLE),
    "dict": (Samples(lambda i: {"x": X[i], "y": Y[i]}), Structure.DICT),
    "named": (Samples(lambda i: Pair(X[i], Y[i])), Structure.OTHER),
    "nested": (Samples(lambda i: {"x": [X[i]], "y": Y[i]}), Structure.OTHER),
    "tensors": (TensorDataset(X, Y), Structure.TUPLE),
    "subset": (Subset(TensorDataset(X), range(3, 38)), Structure.TUPLE),
    "arrays": (Samples(lambda i: (X.numpy()[i], Y.numpy()[i])), Structure.TUPLE),
}


def one_by_one(samples: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The user's own way to put samples together."""
    return torch.stack([x for x, _ in samples]), torch.stack([y for _, y in samples])


LOADING: dict[str, dict[str, Any]] = {
    "shuffled": {"batch_size": 8, "shuffle": True},
    "whole batches only": {"batch_size": 9, "shuffle": True, "drop_last": True},
    "in order": {"batch_size": 8},
    "sampled": {"batch_size": 8, "sampler": WeightedRandomSampler([1.0] * 30, 30)},
    "sampled in batches": {"batch_sampler": BatchSampler(SequentialSampler(range(30)), 7, False)},
    "own generator": {"batch_size": 8, "shuffle": True, "generator": torch.Generator()},
}


def lines(knob: Knob, structure: Structure | None) -> str:
    here = ground(workers=0, dataloader=1.0)
    assert here.facts.fixes is not None
    facts = replace(here.facts, fixes=replace(here.facts.fixes, structure=structure))
    (fix,) = [fix for fix in candidates(replace(here, facts=facts)) if fix.knob is knob]
    return "\n".join(fix.recipe)


def epochs(loader: Any, generator: Any) -> list[list[Any]]:
    torch.manual_seed(3)
    if generator is not None:
        generator.manual_seed(4)
    return [list(loader) for _ in range(2)]


def compare(knob: Knob, structure: Structure | None, dataset: Any, **loading: Any) -> Any:
    """The loader of the recipe, whose batches must be those of the user's."""
    mine = DataLoader(dataset, **loading)
    space: dict[str, Any] = {"torch": torch, "loader": mine}
    exec(lines(knob, structure), space)
    wanted = epochs(mine, loading.get("generator"))
    found = epochs(space["loader"], loading.get("generator"))
    assert wanted[0]
    assert equal(found, wanted)
    assert len(space["loader"]) == len(mine)
    return space["loader"]


@pytest.mark.parametrize("kind", KINDS)
def test_data_in_memory_has_the_batches_of_the_loader(kind: str) -> None:
    dataset, structure = KINDS[kind]
    loading = LOADING["shuffled"]
    assert structure_of(next(iter(DataLoader(dataset, **loading)))) is structure
    compare(Knob.DATA, structure, dataset, **loading)
    compare(Knob.DATA, None, dataset, **loading)  # nobody saw a batch


@pytest.mark.parametrize("knob", [Knob.DATA, Knob.FETCH])
@pytest.mark.parametrize("how", LOADING)
def test_samplers_and_their_order_are_the_loaders(knob: Knob, how: str) -> None:
    compare(knob, Structure.TUPLE, TensorDataset(X, Y), **LOADING[how])


@pytest.mark.parametrize("kind", ["tensor", "tuple", "dict", "tensors", "subset", "arrays"])
def test_batched_fetch_has_the_batches_of_the_loader(kind: str) -> None:
    compare(Knob.FETCH, None, KINDS[kind][0], **LOADING["shuffled"])


def test_samples_put_together_in_another_way_stay_so() -> None:
    compare(Knob.DATA, Structure.TUPLE, KINDS["tuple"][0], batch_size=8, collate_fn=one_by_one)


def test_what_the_loader_was_told_is_kept() -> None:
    told: dict[str, Any] = {
        "num_workers": 1,
        "prefetch_factor": 3,
        "persistent_workers": True,
        "multiprocessing_context": "fork",
        "timeout": 60,
        "worker_init_fn": print,
    }
    mine = DataLoader(TensorDataset(X), batch_size=8, **told)
    space: dict[str, Any] = {"torch": torch, "loader": mine}
    exec(lines(Knob.FETCH, Structure.TUPLE), space)
    for name in (*told, "pin_memory"):
        assert getattr(space["loader"], name) == getattr(mine, name), name


@pytest.mark.parametrize("knob", [Knob.DATA, Knob.FETCH])
@pytest.mark.parametrize("structure", [None, *Structure])
def test_a_report_shows_them_as_they_are(knob: Knob, structure: Structure | None) -> None:
    fix = Fix("a fix", knob, recipe=tuple(lines(knob, structure).split("\n")))
    report = render_tuning_markdown(findings(trial(fix, value=2.0)))
    assert "\n".join(fix.recipe) in report


def test_a_recipe_holds_what_was_measured_and_no_more() -> None:
    here = ground(workers=2, dataloader=1.0)
    on_gpu = replace(here, facts=replace(here.facts, device="cuda"))
    (pinned,) = [fix for fix in candidates(on_gpu) if fix.knob is Knob.PIN]
    assert pinned.recipe == ("DataLoader(..., pin_memory=True)",)
