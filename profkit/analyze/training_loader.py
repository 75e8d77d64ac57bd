"""Which of a run's loaders fed the training; a program may make a new one for each epoch."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..schema.loader import (
    BoolArray,
    Int64Array,
    IteratorFacts,
    LoaderRecord,
    Table,
    select,
)
from ..schema.record import RunRecord
from ..schema.steps import Flag, StepTable

LEAST_SHARE = 0.5
"""Of a loader's batches, those that steps of the training began with."""
_Place = tuple[int, int]


def training_loader(run: RunRecord, record: LoaderRecord | None) -> LoaderRecord | None:
    """What was recorded of the loader that fed the training, and of others made like it.

    Args:
        run: with its steps.
        record: of all loaders; None where nothing was.

    Returns:
        The same of one loader, whose epochs are numbered in the order of time; None where nothing
        is known of any.
    """
    if record is None:
        return None
    asked = _batches_in_steps(record, run.steps)
    feeding = {loader for loader, (count, all_) in asked.items() if count > LEAST_SHARE * all_}
    facts = run.manifest.loader
    number = None if facts is None else facts.number
    if number is None:
        if not asked:
            return None
        number = max(feeding or asked, key=lambda loader: asked[loader])
    made = [one for one in record.iterators if one.loader == number]
    if not made:
        return None
    like = {one.loader for one in record.iterators if _settings(one) == _settings(made[-1])}
    kept = _in_turn(record, number, like & feeding)
    places = sorted(
        (one for one in record.iterators if one.loader in kept), key=lambda one: one.began_ns
    )
    return _as_one(record, {(one.loader, one.epoch): i for i, one in enumerate(places)})


def _in_turn(record: LoaderRecord, number: int, others: set[int]) -> set[int]:
    """The loader, and those of the others that were never asked while one of them was in use."""
    consumed = record.consumed

    def span(loader: int) -> tuple[int, int]:
        got = consumed.got_ns[consumed.loader == loader]
        return (int(got.min()), int(got.max())) if got.size else (0, -1)

    kept = {number: span(number)}
    for loader in sorted(others - {number}):
        low, high = span(loader)
        if all(high < first or last < low for first, last in kept.values()):
            kept[loader] = (low, high)
    return set(kept)


def _settings(one: IteratorFacts) -> tuple[object, ...]:
    return one.workers, one.prefetch, one.in_order, one.pins, one.method


def _batches_in_steps(record: LoaderRecord, steps: StepTable) -> dict[int, tuple[int, int]]:
    """By loader: batches that steps of the training began with, and all."""
    got, loaders = record.consumed.got_ns, record.consumed.loader
    inside = np.zeros(got.size, bool)
    if len(steps):
        row = np.searchsorted(steps.start_ns, got, side="right") - 1
        known = np.maximum(row, 0)
        trained = (steps.flags[known] & int(Flag.EVALUATION)) == 0
        inside = (row >= 0) & (got <= steps.end_ns[known]) & trained
    return {
        int(loader): (int(inside[loaders == loader].sum()), int((loaders == loader).sum()))
        for loader in np.unique(loaders)
    }


def _as_one(record: LoaderRecord, epochs: dict[_Place, int]) -> LoaderRecord:
    """The loaders' epochs of a record, numbered anew, as those of loader 0."""
    return replace(
        record,
        iterators=tuple(
            replace(one, loader=0, epoch=epochs[(one.loader, one.epoch)])
            for one in sorted(record.iterators, key=lambda one: one.began_ns)
            if (one.loader, one.epoch) in epochs
        ),
        births=tuple(
            replace(one, loader=0, epoch=epochs[(one.loader, one.epoch)])
            for one in record.births
            if (one.loader, one.epoch) in epochs
        ),
        details=tuple(
            replace(one, loader=0, epoch=epochs[(one.loader, one.epoch)])
            for one in record.details
            if (one.loader, one.epoch) in epochs
        ),
        produced=_renumbered(record.produced, epochs),
        consumed=_renumbered(record.consumed, epochs),
    )


def _renumbered(table: Table, epochs: dict[_Place, int]) -> Table:
    numbers = _numbers(table.loader, table.epoch, epochs)
    kept: BoolArray = numbers >= 0
    found = select(table, kept)
    return replace(found, loader=np.zeros_like(found.loader), epoch=numbers[kept])


def _numbers(loaders: Int64Array, epochs: Int64Array, known: dict[_Place, int]) -> Int64Array:
    """(n,) the new number of each row's epoch; -1 for one that is not kept."""
    places, group = np.unique(np.stack([loaders, epochs], axis=1), axis=0, return_inverse=True)
    new: Sequence[int] = [known.get((int(loader), int(epoch)), -1) for loader, epoch in places]
    found: Int64Array = np.array(new, np.int64)[group.reshape(-1)]
    return found
