"""Looking into loaders in the main process: what is recorded, and that it can be taken away."""

import gc
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset, dataloader
from torch.utils.data._utils import fetch, pin_memory

from profkit.probe.loader_anatomy import LoaderAnatomy
from profkit.probe.replacements import Replacements
from profkit.store.loader_record import read_loader_record

OWNERS: list[Any] = [
    dataloader,
    dataloader._SingleProcessDataLoaderIter,
    dataloader._MultiProcessingDataLoaderIter,
    dataloader._DatasetKind,
    fetch._MapDatasetFetcher,
    fetch._IterableDatasetFetcher,
    pin_memory,
]


def numbers(**settings: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(12.0)), batch_size=3, **settings)


def double(x: Any) -> Any:
    return 2 * x


class Doubling(Dataset[Any]):
    def __init__(self) -> None:
        self.data = torch.arange(16.0)
        self.transform = double

    def __len__(self) -> int:
        return 16

    def __getitem__(self, i: int) -> Any:
        return self.transform(self.data[i])


def test_taking_it_away_leaves_torch_as_it_was(tmp_path: Path) -> None:
    before = [dict(vars(owner)) for owner in OWNERS]
    hooks = Replacements()
    anatomy = LoaderAnatomy(str(tmp_path))
    anatomy.install(hooks)
    assert sum(dict(vars(o)) != was for o, was in zip(OWNERS, before, strict=True)) >= 5
    batches = [x.tolist() for (x,) in numbers()]
    hooks.put_back()
    assert [dict(vars(owner)) for owner in OWNERS] == before
    assert [x.tolist() for (x,) in numbers()] == batches
    anatomy.stop()


def test_each_batch_is_told_of_where_it_is_made_and_where_it_is_asked_for(
    looking: LoaderAnatomy, tmp_path: Path
) -> None:
    first, second = numbers(), numbers()
    for loader in (first, second, first):
        assert len(list(loader)) == 4
    looking.flush()
    found = read_loader_record(tmp_path)
    assert found is not None
    assert (looking.number_of(first), looking.number_of(second)) == (0, 1)
    assert [(one.loader, one.epoch) for one in found.iterators] == [(0, 0), (1, 0), (0, 1)]
    told = zip(found.produced.loader, found.produced.epoch, found.produced.batch, strict=True)
    assert sorted(told) == [(0, e, i) for e in (0, 1) for i in range(4)] + [
        (1, 0, i) for i in range(4)
    ]
    assert found.consumed.batch.tolist() == found.produced.batch.tolist()
    assert (found.consumed.asked_ns <= found.produced.start_ns).all()
    assert (found.produced.end_ns <= found.consumed.got_ns).all()
    assert set(found.produced.samples.tolist()) == {3}


def test_a_loader_that_hands_out_nothing_is_told_of_with_no_batch(
    looking: LoaderAnatomy, tmp_path: Path
) -> None:
    empty: DataLoader[Any] = DataLoader([], batch_size=2)  # type: ignore[arg-type]
    assert list(empty) == []
    looking.flush()
    found = read_loader_record(tmp_path)
    assert found is not None
    assert (len(found.iterators), len(found.produced), len(found.consumed)) == (1, 0, 0)


def test_after_its_end_nothing_is_told(looking: LoaderAnatomy, tmp_path: Path) -> None:
    running = iter(numbers())
    next(running)
    looking.stop()
    assert len(list(running)) == 3
    assert len(list(numbers())) == 4
    found = read_loader_record(tmp_path)
    assert found is not None
    assert (len(found.iterators), len(found.produced)) == (1, 1)


def test_a_place_that_is_gone_stops_no_loader(tmp_path: Path) -> None:
    hooks = Replacements()
    anatomy = LoaderAnatomy(str(tmp_path / "never" / "loader"))
    anatomy.install(hooks)
    assert len(list(numbers())) == 4
    anatomy.flush()
    assert len(list(numbers(num_workers=1))) == 4
    anatomy.stop()
    hooks.put_back()
    assert read_loader_record(tmp_path / "never") is None
    assert not (tmp_path / "never").exists()
    assert any("FileNotFoundError" in gap for gap in anatomy.gaps)


def test_a_file_that_ends_in_the_middle_of_a_row_is_read_up_to_there(
    looking: LoaderAnatomy, tmp_path: Path
) -> None:
    list(numbers())
    looking.stop()
    (rows,) = (tmp_path / "loader").glob("produced-*.rows")
    rows.write_bytes(rows.read_bytes()[:-5])
    lines = tmp_path / "loader" / "iterators.jsonl"
    lines.write_bytes(lines.read_bytes() + b'{"began_ns": "no number"}\n{"began_ns": 1')
    found = read_loader_record(tmp_path)
    assert found is not None
    assert len(found.produced) == 3
    assert found.gaps == ("a line about IteratorFacts is damaged and was left out",)


def test_other_subclasses_of_a_loader_are_what_they_were(looking: LoaderAnatomy) -> None:
    class Doubled(DataLoader[Any]):
        def __iter__(self) -> Any:
            for (x,) in super().__iter__():
                yield 2 * x

    seen = [x.tolist() for x in Doubled(TensorDataset(torch.arange(4.0)), batch_size=2)]
    assert seen == [[0, 2], [4, 6]]


def test_pinning_is_timed_once_for_all_that_a_batch_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pretended(data: Any, device: Any = None) -> Any:
        if isinstance(data, list):
            return [pin_memory.pin_memory(one, device) for one in data]
        time.sleep(0.002)
        return data

    monkeypatch.setattr(pin_memory, "pin_memory", pretended)
    hooks = Replacements()
    anatomy = LoaderAnatomy(str(tmp_path))
    anatomy.install(hooks)
    batches = iter(numbers())
    source = vars(batches)["_profkit_source"]
    for i in range(2):  # as the thread does that pins: a batch comes, and is pinned
        anatomy._arrived(source.arrivals, i, 7, 5)
        pin_memory.pin_memory([torch.zeros(1), torch.zeros(1)])
    assert [one[:2] for one in source.arrivals.values()] == [(7, 5), (7, 5)]
    assert all(one[2] >= 4_000_000 for one in source.arrivals.values())
    pin_memory.pin_memory([torch.zeros(1)])  # nobody's batch
    assert len(source.arrivals) == 2
    hooks.put_back()
    anatomy.stop()


def test_without_a_loader_there_is_no_directory(looking: LoaderAnatomy, tmp_path: Path) -> None:
    looking.flush()
    looking.stop()
    assert list(tmp_path.iterdir()) == []


def test_more_loaders_than_are_recorded_are_said(
    looking: LoaderAnatomy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profkit.probe.loader_anatomy.MOST_LOADERS", 2)
    for _ in range(2):
        list(numbers())
    assert looking.gaps == []
    for _ in range(3):
        list(numbers())
    assert looking.gaps == [
        "what batches cost their producer was recorded for the first 2 DataLoaders only: the "
        "program made more"
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_from_before_is_said(tmp_path: Path, workers: int) -> None:
    """Also one that another observation has seen begin."""
    for seen in (False, True):
        loader = numbers(num_workers=workers, persistent_workers=workers > 0)
        hooks, before, anatomy = Replacements(), Replacements(), None
        if seen:
            LoaderAnatomy(str(tmp_path / "before")).install(before)
        running = iter(loader)
        next(running)
        before.put_back()
        path = tmp_path / f"{seen}"
        path.mkdir()
        anatomy = LoaderAnatomy(str(path / "loader"))
        anatomy.install(hooks)
        assert len(list(running)) == 3
        again = len(list(loader))
        hooks.put_back()
        anatomy.stop()
        assert again == 4
        (gap,) = anatomy.gaps
        assert "before the observation began" in gap
        found = read_loader_record(path)
        assert (found is None) == (workers > 0), "its workers know nothing of this observation"
        assert found is None or len(found.consumed) == 4


def test_a_queue_goes_with_its_iterator(looking: LoaderAnatomy) -> None:
    """And so do its pipes."""
    gc.disable()
    try:
        iterator = iter(numbers(num_workers=1))
        queue = weakref.ref(iterator._worker_result_queue)  # type: ignore[attr-defined]
        assert len(list(iterator)) == 4
        del iterator
        assert queue() is None
    finally:
        gc.enable()


def test_data_goes_with_its_dataset(looking: LoaderAnatomy) -> None:
    def one(**settings: Any) -> Any:
        dataset = Doubling()
        assert len(list(DataLoader(dataset, batch_size=4, **settings))) == 4
        return weakref.ref(dataset.data)

    gc.disable()
    try:
        assert [one()() is None, one(num_workers=1)() is None] == [True, True]
    finally:
        gc.enable()


def test_threads_may_iterate_one_dataset(looking: LoaderAnatomy) -> None:
    dataset = Doubling()

    def go() -> None:
        for _ in range(6):
            list(DataLoader(dataset, batch_size=2))

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dataset.transform is double
    assert looking.gaps == []
