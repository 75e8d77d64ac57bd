"""Constants are chosen without the test images, by other seeds than those that are reported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.mnist import feeding, measuring
from experiments.mnist.bench import Bench
from experiments.mnist.choices import (
    CHOICES,
    FIRST_SEED,
    UNDONE,
    Tried,
    render_choices,
    try_all,
)
from experiments.mnist.feeding import VALIDATION, open_feed
from experiments.mnist.ladders import LADDERS, rung_named
from experiments.mnist.machine import Machine
from experiments.mnist.recipe import Recipe, Source, changed, difference, value_of
from experiments.mnist.results import Results
from experiments.mnist.task import Task
from experiments.mnist.train import Epoch, Training

MACHINE = Machine("two cores", "torch 2", "0123abc", "cpu")
RATES = {"tuned": ({"optimizer.lr": 0.1}, {"optimizer.lr": 0.2})}


def try_rates(kept: Path) -> list[Tried]:
    results = Results(kept)
    try:
        return try_all([rung_named("tuned")], RATES, 2, Bench(MACHINE, (), results))
    finally:
        results.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    found: list[Task] = []

    def train(task: Task, device: str, options: Sequence[str], held: Sequence[int]) -> Training:
        found.append(task)
        accuracy = 0.98 if task.recipe.optimizer.lr == 0.2 else 0.97
        return Training(1.0, 0.0, 2.0, 10, (Epoch(2.0, 0.0, accuracy, 0.1, 10),))

    monkeypatch.setattr(measuring, "trained", train)
    return found


def test_every_training_is_validated_by_a_seed_that_is_not_reported(
    asked: list[Task], tmp_path: Path
) -> None:
    try_rates(tmp_path)
    assert [task.seed for task in asked] == [FIRST_SEED] * 3 + [FIRST_SEED + 1] * 3
    assert all("--validate" in task.arguments for task in asked)
    assert {tuple(task.changes.items()) for task in asked[:3]} == {
        (),
        (("optimizer.lr", 0.1),),
        (("optimizer.lr", 0.2),),
    }
    changed_one = next(task for task in asked if task.changes == {"optimizer.lr": 0.1})
    assert changed_one.arguments == [
        *("tuned", "--seed", "1000", "--change", "optimizer.lr=0.1", "--validate"),
    ]


def test_the_best_stands_first_and_what_is_kept_is_not_trained_again(
    asked: list[Task], tmp_path: Path
) -> None:
    lines = render_choices(try_rates(tmp_path))
    rows = [line.split(" | ")[0] for line in lines if line.startswith("| ") and "%" not in line]
    assert rows[0] == "| `optimizer.lr=0.2`"
    assert "| **nothing: as it is**" in rows
    assert "| +1.00 (+1.00 to +1.00) | 2 | 2 (2 to 2) | 1.00 (1.00 to 1.00) |" in "\n".join(lines)
    count = len(asked)
    assert render_choices(try_rates(tmp_path)) == lines
    assert len(asked) == count


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (name, changes)
        for choices in (CHOICES, UNDONE)
        for name, each in choices.items()
        for changes in each
    ],
)
def test_each_value_is_another_than_the_rungs_and_can_be_told_to_a_process(
    name: str, changes: dict[str, Any]
) -> None:
    rung = rung_named(name)
    told = Task(rung, 0, changes=changes).arguments
    for argument in told[told.index("--change") + 1 :: 2]:
        path, _, text = argument.partition("=")
        assert value_of(rung.recipe, path, text) == changes[path]
    changed(rung.recipe, changes)


@pytest.mark.parametrize("name", UNDONE)
def test_each_undone_technique_is_as_it_was_before_some_rung(name: str) -> None:
    ladder = next(one for one in LADDERS if name in [rung.name for rung in one])
    steps = [
        difference(rung.recipe, ladder.named(rung.on).recipe)
        for rung in ladder
        if rung.on is not None
    ]
    for changes in UNDONE[name]:
        assert any(changes.items() <= step.items() for step in steps), changes


def test_what_no_seed_tells_from_the_rung_is_named() -> None:
    lines = render_choices(
        [
            Tried("one", "", (0.97, 0.98, 0.975), (2.0, 2.1, 1.9)),
            Tried("one", "same=1", (0.971, 0.979, 0.976), (2.1, 2.0, 1.95)),
            Tried("one", "slow=1", (0.971, 0.979, 0.976), (4.1, 4.0, 4.0)),
            Tried("one", "worse=1", (0.951, 0.961, 0.956), (2.1, 2.0, 1.95)),
        ]
    )
    last = next(line for line in lines if line.startswith("Neither"))
    assert last.endswith("by these seeds: `same=1`.")


def test_validation_looks_at_no_test_image(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[bool] = []

    class Digits:
        def __len__(self) -> int:
            return 60_000

    def open_dataset(files: Any, *, train: bool) -> Digits:
        opened.append(train)
        return Digits()

    images, labels = torch.arange(60_000).view(-1, 1, 1, 1), torch.arange(60_000)
    monkeypatch.setattr(feeding, "open_dataset", open_dataset)
    monkeypatch.setattr(feeding, "resident", lambda dataset: (images, labels))
    monkeypatch.setattr(feeding, "middle", lambda maps, side: maps)
    data = changed(Recipe(), {"data.source": Source.RESIDENT}).data
    feed = open_feed(
        None,  # type: ignore[arg-type]  # not read
        data,
        device=torch.device("cpu"),
        seed=0,
        is_validated=True,
    )
    assert opened == [True, True]
    trained = torch.cat([labels for _, labels in feed.train])
    tested = torch.cat([labels for _, labels in feed.test])
    assert sorted(trained.tolist()) == list(range(60_000 - VALIDATION))
    assert tested.tolist() == list(range(60_000 - VALIDATION, 60_000))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("optimizer.rate=1", "optimizer.rate: there is no such path"),
        ("optimizer.method=adamw", "there are adadelta, adam, rmsprop, sgd"),
        ("optimizer.lr=fast", "write a value such as 0.01"),
        ("optimizer.lr=0.01", "is 0.01 already: the change changes nothing"),
    ],
)
def test_a_change_that_is_none_is_a_clear_line(change: str, words: str) -> None:
    recipe = rung_named("tuned").recipe
    path, _, text = change.partition("=")
    with pytest.raises(ValueError, match=words):
        changed(recipe, {path: value_of(recipe, path, text)})
