import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from conftest import make_manifest
from profkit.errors import OutputError, RunError
from profkit.schema.steps import MarkTable, StepTable
from profkit.store.names import MARKS, REFERENCE, STEPS
from profkit.store.records import read_run
from profkit.store.run_directory import (
    MANIFEST,
    create_directory,
    find_runs,
    write_manifest,
    write_set,
)
from profkit.store.streams import RunWriter

STAGES_NS = [10, 1, 20, 30, 5, 2]


def table(start: int, steps: int = 1, samples: int = 64) -> StepTable:
    starts = start + 1000 * np.arange(steps)
    return StepTable(
        start_ns=starts,
        end_ns=starts + sum(STAGES_NS),
        stage_ns=np.tile(np.array(STAGES_NS, np.int64), (steps, 1)),
        marked=np.ones((steps, 6), np.bool_),
        collective_wait_ns=None,
        samples=np.full(steps, samples),
        flags=np.zeros(steps, np.int64),
    )


def write(directory: Path, batches: int = 1, steps: int = 3) -> Path:
    create_directory(directory)
    write_manifest(directory, make_manifest())
    writer = RunWriter(directory)
    for batch in range(batches):
        one = np.array([batch * steps])
        writer.append(table(1000 * batch * steps, steps), MarkTable(one, one * 0, one, one + 10))
    writer.close()
    return directory


def test_what_was_written_is_read(tmp_path: Path) -> None:
    run = read_run(write(tmp_path / "run", batches=2))
    assert run.manifest == make_manifest()
    assert run.steps.stage_ns.tolist() == [[10, 1, 20, 30, 5, 2]] * 6
    assert run.steps.start_ns.tolist() == [0, 1000, 2000, 3000, 4000, 5000]
    assert run.marks.step.tolist() == [0, 3]
    assert run.reference is None
    assert run.reading_gaps == ()


def test_absent_is_null_on_disk_and_not_zero(tmp_path: Path) -> None:
    create_directory(tmp_path / "run")
    write_manifest(tmp_path / "run", make_manifest())
    writer = RunWriter(tmp_path / "run")
    absent = table(0, samples=-1)
    absent.marked[0] = [True, False, True, False, False, True]
    absent.stage_ns[0] = [10, 0, 5, 0, 0, 53]
    writer.append(absent)
    writer.append(table(9), name=REFERENCE)
    writer.close()
    import pyarrow as pa

    columns = pa.ipc.open_stream((tmp_path / "run" / STEPS).read_bytes()).read_all()
    assert all(field.type == pa.int64() for field in columns.schema)
    assert columns["transfer_ns"].to_pylist() == [None]
    assert columns["samples"].to_pylist() == [None]
    assert columns["collective_wait_ns"].to_pylist() == [None]
    run = read_run(tmp_path / "run")
    assert run.steps.marked[0].tolist() == [True, False, True, False, False, True]
    assert run.steps.collective_wait_ns is None
    assert run.steps.samples.tolist() == [-1]
    assert run.reference is not None
    assert run.reference.start_ns.tolist() == [9]


def test_every_truncation_reads_up_to_the_last_whole_batch(tmp_path: Path) -> None:
    directory = write(tmp_path / "run", batches=3)
    whole = (directory / STEPS).read_bytes()
    counts = set()
    for size in range(0, len(whole), 7):
        (directory / STEPS).write_bytes(whole[:size])
        run = read_run(directory)
        counts.add(len(run.steps))
        assert run.steps.stage_ns.tolist() == [[10, 1, 20, 30, 5, 2]] * len(run.steps)
    assert counts == {0, 3, 6}


def test_a_killed_run_without_any_step_is_read(tmp_path: Path) -> None:
    directory = write(tmp_path / "run")
    (directory / STEPS).unlink()
    (directory / MARKS).unlink()
    assert len(read_run(directory).steps) == 0


def test_foreign_streams_are_refused(tmp_path: Path) -> None:
    directory = write(tmp_path / "run")
    (directory / STEPS).write_bytes(b"start,end\n1,2\n" * 400)
    with pytest.raises(RunError, match=r"steps\.arrow is damaged or not profkit's"):
        read_run(directory)
    (directory / STEPS).write_bytes((directory / MARKS).read_bytes())
    with pytest.raises(RunError, match="foreign columns"):
        read_run(directory)


def test_flipped_figures_are_noticed(tmp_path: Path) -> None:
    directory = write(tmp_path / "run")
    whole = bytearray((directory / STEPS).read_bytes())
    at = whole.rfind(np.array([20], np.int64).tobytes())
    whole[at] = 21
    (directory / STEPS).write_bytes(whole)
    with pytest.raises(RunError, match="stages do not sum to their step"):
        read_run(directory)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"schema": 99}', "is schema 99; this profkit reads up to 2: upgrade profkit"),
        ('{"schema": 0}', "is schema 0"),
        ('{"schema": 1}', "is damaged or not profkit's"),
        ('{"version": "2"}', "is damaged or not profkit's"),
        ('{"schema": 1, "na', "is damaged or not profkit's"),
        ("[]", "is damaged or not profkit's"),
        ("", "is damaged or not profkit's"),
    ],
)
def test_a_foreign_manifest_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    directory = write(tmp_path / "run")
    (directory / MANIFEST).write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        read_run(directory)
    assert "\n" not in str(caught.value)


def test_a_manifest_of_the_future_may_hold_anything(tmp_path: Path) -> None:
    directory = write(tmp_path / "run")
    content = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps({**content, "schema": 3, "ranks": {}}))
    with pytest.raises(RunError, match="upgrade profkit"):
        read_run(directory)


def test_nothing_is_overwritten_without_force(tmp_path: Path) -> None:
    directory = write(tmp_path / "run")
    with pytest.raises(OutputError, match="already exists: choose another path, or pass --force"):
        create_directory(directory)
    assert len(read_run(directory).steps) == 3
    create_directory(directory, force=True)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("extra", ["notes.txt", "a/model.pt", "a/passes.txt"])
def test_force_removes_only_what_profkit_wrote(tmp_path: Path, extra: str) -> None:
    place = tmp_path / "set"
    write(place / "a")
    write_set(place, ("a",))
    (place / "report.md").write_text("# report")
    (place / extra).write_text("years of work")
    with pytest.raises(OutputError, match=f"{extra} was not written by profkit"):
        create_directory(place, force=True)
    assert (place / extra).read_text() == "years of work"
    assert len(read_run(place / "a").steps) == 3
    (place / extra).unlink()
    create_directory(place, force=True)
    assert list(place.iterdir()) == []


def test_force_removes_what_a_killed_write_left(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    create_directory(directory)
    write_manifest(directory, make_manifest())
    (directory / "run.json.partial").write_bytes(b"{")
    create_directory(directory, force=True)
    assert not list(directory.iterdir())


def test_a_manifest_is_written_over_where_there_is_no_room_for_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path, make_manifest("before"))

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    write_manifest(tmp_path, make_manifest("b"))
    assert read_run(tmp_path).manifest.name == "b"
    with pytest.raises(OutputError, match="No space left"):
        write_manifest(tmp_path, make_manifest("x" * 100_000))
    assert read_run(tmp_path).manifest.name == "b"


def test_half_a_message_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, steps = RunWriter(tmp_path), table(0, 30)
    write_manifest(tmp_path, make_manifest())
    writer.append(steps)
    write, calls = os.write, iter(range(9))

    def fill(stream: int, content: bytes) -> int:
        if next(calls):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(stream, content[:100])

    monkeypatch.setattr(os, "write", fill)
    with pytest.raises(OSError, match="No space left"):
        writer.append(steps)
    monkeypatch.undo()
    writer.append(steps)
    writer.close()
    run = read_run(tmp_path)
    assert (len(run.steps), run.reading_gaps) == (60, ())


def test_force_leaves_a_run_alone_that_the_set_does_not_name(tmp_path: Path) -> None:
    write(tmp_path / "set" / "a")
    write(tmp_path / "set" / "precious")
    write_set(tmp_path / "set", ("a",))
    with pytest.raises(OutputError, match="precious was not written by profkit"):
        create_directory(tmp_path / "set", force=True)
    assert len(read_run(tmp_path / "set" / "precious").steps) == 3


@pytest.mark.parametrize("content", ['{"experiment": "another tool"}', '{"schema": 1}', "{"])
def test_another_tools_run_json_is_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(OutputError, match="was not written by profkit"):
        create_directory(tmp_path, force=True)
    assert (tmp_path / MANIFEST).read_text() == content


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="choose another path"):
        create_directory(tmp_path / "file" / "run")


def test_a_removed_directory_is_noticed(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    create_directory(directory)
    writer = RunWriter(directory)
    writer.append(table(0))
    (directory / STEPS).unlink()
    with pytest.raises(OSError, match="removed"):
        writer.append(table(9))
    writer.close()


def test_runs_are_found_in_the_directory_that_holds_them(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "set" / name)
    assert [run.name for run in find_runs(tmp_path / "set")] == ["a", "b"]
    write_set(tmp_path / "set", ("b", "a"))
    assert [run.name for run in find_runs(tmp_path / "set")] == ["b", "a"]
    write_set(tmp_path / "set", ("b", "gone"))
    with pytest.raises(RunError, match=r"the run gone, which has no run\.json"):
        find_runs(tmp_path / "set")
    for content, message in (
        ('{"schema": 9, "runs": []}', "upgrade profkit"),
        ('{"schema": 1, "runs": ["../b"]}', "names runs elsewhere"),
        ('{"schema": 1, "runs": 3}', "damaged"),
    ):
        (tmp_path / "set" / "runs.json").write_text(content)
        with pytest.raises(RunError, match=message):
            find_runs(tmp_path / "set")
    assert find_runs(tmp_path / "set" / "a") == (tmp_path / "set" / "a",)


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run"):
        find_runs(tmp_path)
    with pytest.raises(RunError, match="is no directory"):
        find_runs(tmp_path / "nowhere")


def test_a_run_of_the_first_schema_still_reads(tmp_path: Path) -> None:
    directory = write(tmp_path / "run")
    content = json.loads((directory / MANIFEST).read_text())
    for since_then in ("apart", "rank", "process"):
        del content[since_then]
    (directory / MANIFEST).write_text(json.dumps({**content, "schema": 1}))
    read = read_run(directory)
    assert read.manifest.apart == ()
    assert read.manifest.rank is None
    assert len(read.steps)
