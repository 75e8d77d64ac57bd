"""In loader workers: what is timed there, what is not, and what they leave behind."""

import os
import struct
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from profkit.probe.hooks import Hooks
from profkit.probe.loader_anatomy import LoaderAnatomy
from profkit.probe.loader_worker import WorkerOrder, _Worker
from profkit.probe.loop_clock import LoopClock
from profkit.schema.loader import LoaderRecord, Produced
from profkit.store.batches import ENDED, PERIOD_NS, Appender, rows_file
from profkit.store.loader_record import read_loader_record

ORIGINAL_TO = torch.Tensor.to


def told(anatomy: LoaderAnatomy, directory: Path) -> LoaderRecord:
    anatomy.flush()
    found = read_loader_record(directory)
    assert found is not None
    return found


def plus(x: Any) -> Any:
    return x + 1


class Items(Dataset[Any]):
    def __init__(self, count: int = 8) -> None:
        self.count = count
        self.transform = plus

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Any:
        return self.transform(torch.ones(2))


class Around(IterableDataset[Any]):
    """A loader around another one."""

    def __init__(self, eager: bool) -> None:
        self.eager = eager

    def __iter__(self) -> Any:
        inner = DataLoader(Items(), batch_size=2)
        return iter(inner) if self.eager else (batch for batch in inner)


def run(loader: DataLoader[Any], epochs: int) -> None:
    for _ in range(epochs):
        for _ in loader:
            pass
    loader._iterator = None  # workers that stay, stay no longer


@pytest.mark.parametrize("eager", [True, False])
def test_a_loader_within_a_dataset_is_no_epoch(
    looking: LoaderAnatomy, tmp_path: Path, eager: bool
) -> None:
    settings: dict[str, Any] = {"batch_size": None, "num_workers": 1, "persistent_workers": True}
    run(DataLoader(Around(eager), **settings), 3)
    found = told(looking, tmp_path)
    assert [int((found.produced.epoch == epoch).sum()) for epoch in range(6)] == [4, 4, 4, 0, 0, 0]


@pytest.mark.parametrize("persistent", [True, False])
def test_each_worker_has_its_files_and_short_epochs_have_details(
    looking: LoaderAnatomy, tmp_path: Path, persistent: bool
) -> None:
    run(DataLoader(Items(4), 2, num_workers=2, persistent_workers=persistent), 10)
    found = told(looking, tmp_path)
    assert len(found.produced) == 20
    assert sorted(zip(found.produced.epoch.tolist(), found.produced.worker.tolist(), strict=True))[
        :4
    ] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    detailed = sorted((one.epoch, one.batch) for one in found.details)
    if persistent:  # then it depends on what timing cost
        assert detailed[:2] == [(1, 0), (1, 1)]
    else:
        assert detailed == [(epoch, batch) for epoch in (1, 5, 9) for batch in (0, 1)]
    assert {one.parts[0].name for one in found.details} == {"plus"}
    assert len(list((tmp_path / "loader").iterdir())) <= 6


def test_what_a_worker_cannot_time_is_said(
    looking: LoaderAnatomy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(dataset: Any) -> Any:
        raise RuntimeError("unheard of")

    monkeypatch.setattr("profkit.probe.batch_timer.find_parts", fails)
    context = {"multiprocessing_context": "fork"}
    run(DataLoader(Items(), 2, num_workers=2, **context), 3)  # type: ignore[arg-type]
    found = told(looking, tmp_path)
    assert found.gaps == ("the parts of batches were not timed: RuntimeError('unheard of')",)
    assert len(found.produced) == 12


def test_workers_stop_writing_after_the_end(looking: LoaderAnatomy, tmp_path: Path) -> None:
    loader = DataLoader(Items(), 2, num_workers=1, persistent_workers=True)
    for _ in loader:
        pass
    looking.stop()
    time.sleep(1.5 * PERIOD_NS / 1e9)
    for _ in range(10):
        for _ in loader:
            pass
    loader._iterator = None
    assert (tmp_path / "loader" / ENDED).exists()
    found = read_loader_record(tmp_path)
    assert found is not None
    assert 4 <= len(found.produced) <= 6, "those before, and the one at which it looked"


class Looking(Dataset[Any]):
    """Whether the functions of torch are its own."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> Any:
        return float(torch.Tensor.to is ORIGINAL_TO and "_profkit" not in repr(vars(torch.Tensor)))


@pytest.mark.parametrize("workers", [0, 1])
def test_hooks_stay_in_the_main_process(tmp_path: Path, workers: int) -> None:
    hooks = Hooks(LoopClock(lambda steps, marks: None))
    hooks.install()
    anatomy = LoaderAnatomy(str(tmp_path / "loader"))
    anatomy.install(hooks)
    try:
        assert torch.Tensor.to is not ORIGINAL_TO
        seen = list(DataLoader(Looking(), num_workers=workers))
        assert torch.Tensor.to is not ORIGINAL_TO
        found = told(anatomy, tmp_path)
    finally:
        hooks.uninstall()
        anatomy.stop()
    assert [bool(one) for one in seen] == [workers > 0] * 2
    assert len(found.produced) == 2, "still timed"


def test_behind_half_a_row_another_file_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "produced-0.rows"

    def write(row: tuple[int, ...]) -> Appender:
        file = rows_file(str(path), 2)
        file.append(row)
        file.close()
        return file

    write((1, 2))
    write((3, 4))
    assert path.stat().st_size == 32
    path.write_bytes(path.read_bytes()[:-3])
    write((5, 6))
    assert path.stat().st_size == 29
    assert sorted(one.name for one in tmp_path.glob("produced-*.rows")) == sorted(
        ["produced-0.rows", f"produced-0.{os.getpid()}.rows"]
    )


def test_a_worker_that_ends_while_it_sends_has_told_of_that_batch(tmp_path: Path) -> None:
    """The loop may end it as soon as it has the batch."""
    directory = tmp_path / "loader"
    directory.mkdir()
    order = WorkerOrder(str(directory), 0, 0, 0)
    worker = _Worker(order, 0, None)
    worker._packed = (3, 0, (1, 2, 1, 0, 0, 4, 0), 5)
    worker._timed_send(lambda content: worker._end())(b"")
    content = (directory / "produced-0.rows").read_bytes()
    (row,) = struct.iter_unpack(f"<{len(fields(Produced))}q", content)
    assert row[:4] == (0, 0, 3, 0)
