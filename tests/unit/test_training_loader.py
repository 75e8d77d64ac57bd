"""The loader that fed the training, told from others by the steps that began with its batches."""

from dataclasses import fields
from typing import Any

import numpy as np

from conftest import make_run, make_steps
from profkit.analyze.training_loader import training_loader
from profkit.schema.loader import (
    Consumed,
    Detail,
    IteratorFacts,
    LoaderRecord,
    Produced,
    WorkerBirth,
)
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag

STEP = 1_000


def table(kind: Any, rows: list[tuple[int, int, int, int]]) -> Any:
    """Rows of loader, epoch, batch and the moment when it was got."""
    made = {field.name: np.zeros(len(rows), np.int64) for field in fields(kind)}
    for i, (loader, epoch, batch, got) in enumerate(rows):
        made["loader"][i], made["epoch"][i], made["batch"][i] = loader, epoch, batch
        if kind is Consumed:
            made["got_ns"][i] = got
    return kind(**made)


def iterator(loader: int, epoch: int, began: int, workers: int = 0) -> IteratorFacts:
    return IteratorFacts(
        loader, epoch, workers, 2 * workers, True, False, False, None, began, began
    )


def record(rows: list[tuple[int, int, int, int]], *iterators: IteratorFacts) -> LoaderRecord:
    details = tuple(Detail(loader, epoch, batch, (), 0) for loader, epoch, batch, _ in rows)
    births = tuple(WorkerBirth(one.loader, one.epoch, 0, 0) for one in iterators)
    return LoaderRecord(iterators, births, table(Produced, rows), table(Consumed, rows), details)


def run(count: int, flags: dict[int, Flag] | None = None, number: int | None = None) -> Any:
    """Steps one after the other."""
    steps = make_steps({Stage.FORWARD: STEP}, count)
    for row, flag in (flags or {}).items():
        steps.flags[row] |= int(flag)
    return make_run(steps, loader=LoaderFacts("DataLoader", 4, 0, None, number))


def in_steps(loader: int, epoch: int, first: int, count: int) -> list[tuple[int, int, int, int]]:
    return [(loader, epoch, i, STEP * (first + i) + 10) for i in range(count)]


def test_a_loader_made_anew_for_each_epoch_counts_as_one() -> None:
    rows = in_steps(0, 0, 0, 4) + in_steps(3, 0, 4, 4)
    seen = record(rows, iterator(3, 0, 4 * STEP), iterator(0, 0, 0))
    found = training_loader(run(8, number=3), seen)
    assert found is not None
    assert [(one.loader, one.epoch) for one in found.iterators] == [(0, 0), (0, 1)]
    assert found.produced.epoch.tolist() == found.consumed.epoch.tolist() == [0] * 4 + [1] * 4
    assert [one.epoch for one in found.details] == [0] * 4 + [1] * 4
    assert {one.epoch for one in found.births} == {0, 1}
    assert set(found.consumed.loader.tolist()) == {0}


def test_evaluation_is_not_among_it() -> None:
    rows = in_steps(0, 0, 0, 4) + in_steps(1, 0, 4, 3) + in_steps(2, 0, 900, 5)
    seen = record(rows, iterator(0, 0, 0), iterator(1, 0, 1), iterator(2, 0, 2))
    evaluated = dict.fromkeys(range(4, 7), Flag.EVALUATION)
    found = training_loader(run(8, evaluated, number=0), seen)
    assert found is not None
    assert len(found.consumed) == 4


def test_what_is_set_otherwise_is_another_loader() -> None:
    rows = in_steps(0, 0, 0, 4) + in_steps(1, 0, 4, 4)
    seen = record(rows, iterator(0, 0, 0), iterator(1, 0, 1, workers=2))
    found = training_loader(run(8, number=1), seen)
    assert found is not None
    assert [one.workers for one in found.iterators] == [2]
    assert len(found.produced) == 4


def test_without_a_number_it_is_the_one_that_most_steps_began_with() -> None:
    rows = in_steps(0, 0, 900, 9) + in_steps(1, 0, 0, 4) + in_steps(1, 1, 4, 2)
    seen = record(rows, iterator(0, 0, 0), iterator(1, 0, 1), iterator(1, 1, 2))
    found = training_loader(run(8), seen)
    assert found is not None
    assert found.consumed.epoch.tolist() == [0] * 4 + [1] * 2


def test_nothing_is_told_of_a_loader_that_nobody_knows() -> None:
    assert training_loader(run(3), None) is None
    assert training_loader(run(3), record([])) is None
    assert (
        training_loader(run(3, number=7), record(in_steps(0, 0, 0, 2), iterator(0, 0, 0))) is None
    )


def test_loaders_in_use_at_once_are_not_one() -> None:
    rows = [row for i in range(4) for loader in (0, 1) for row in in_steps(loader, 0, i, 1)]
    seen = record(rows, iterator(0, 0, 0), iterator(1, 0, 1))
    found = training_loader(run(4, number=0), seen)
    assert found is not None
    assert len(found.iterators) == 1
    assert len(found.consumed) == 4
