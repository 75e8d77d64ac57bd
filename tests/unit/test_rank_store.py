"""The summaries of ranks on disk, and finding and reading what a launch left behind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import make_manifest, make_steps
from launches import make_launch, write_launch
from profkit.errors import RunError
from profkit.recorder import Recorder
from profkit.schema.run import RankFacts
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag, StepTable
from profkit.store.names import MANIFEST, STEPS, SUMMARY
from profkit.store.rank_directories import find_ranks, read_ranks
from profkit.store.rank_summary import (
    read_summary,
    sample_stream,
    summarize,
    summarize_run,
    write_summary,
)
from profkit.store.run_directory import create_directory
from profkit.store.streams import RunWriter


def same(one: StepTable, other: StepTable) -> bool:
    waits = (one.collective_wait_ns, other.collective_wait_ns)
    return (
        all(
            np.array_equal(getattr(one, name), getattr(other, name))
            for name in ("start_ns", "end_ns", "stage_ns", "marked", "samples", "flags")
        )
        and (waits[0] is None) == (waits[1] is None)
        and (waits[0] is None or np.array_equal(waits[0], waits[1]))  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("watched", [True, False])
def test_a_summary_is_read_as_it_was_written(tmp_path: Path, watched: bool) -> None:
    (steps,) = make_launch(1, steps=300, watched=watched)
    steps = replace(steps, samples=np.where(np.arange(300) % 2, 64, -1))
    write_summary(tmp_path, steps)
    read, made = read_summary(tmp_path), summarize(steps)
    assert read is not None
    assert (read.count, made.count) == (300, 300)
    assert np.array_equal(read.ordinal, made.ordinal)
    assert np.array_equal(read.stands_for, made.stands_for)
    assert same(read.steps, made.steps)


def test_what_stands_for_the_steps_counts_as_many() -> None:
    for count in (1, 128, 129, 1000, 100_000):
        found = summarize(make_steps({Stage.FORWARD: 10}, count))
        assert found.count == count
        # Each kept step stands for those up to the next; the last may stand for fewer.
        assert 0 <= found.stands_for.sum() - count < found.stands_for[-1]
        assert len(found.steps) <= 1500
    assert np.array_equal(found.ordinal[:128], np.arange(128))


def test_a_short_runs_summary_begins_a_long_ones() -> None:
    long = summarize(make_steps({Stage.FORWARD: 10}, 9000)).ordinal
    short = summarize(make_steps({Stage.FORWARD: 10}, 700)).ordinal
    assert np.array_equal(long[: short.size], short)


def test_evaluation_is_left_out_and_not_counted() -> None:
    steps = make_steps({Stage.FORWARD: np.arange(1, 41)}, 40)
    flags = steps.flags.copy()
    flags[10:20] |= int(Flag.EVALUATION)
    found = summarize(replace(steps, flags=flags))
    assert found.count == 30
    assert found.ordinal.tolist() == list(range(30))
    assert found.steps.step_ns.tolist() == [*range(1, 11), *range(21, 41)]


def test_a_stream_gives_the_same_summary_batch_by_batch(tmp_path: Path) -> None:
    steps = make_launch(1, steps=1000)[0]
    flags = steps.flags.copy()
    flags[::7] |= int(Flag.EVALUATION)
    steps = replace(steps, flags=flags)
    write_launch(tmp_path, [steps], summaries=False)
    directory = tmp_path / "rank-0"
    assert read_summary(directory) is None
    streamed, whole = sample_stream(directory, []), summarize(steps)
    assert np.array_equal(streamed.ordinal, whole.ordinal)
    assert streamed.count == whole.count
    assert same(streamed.steps, whole.steps)
    summarize_run(directory)
    read = read_summary(directory)
    assert read is not None
    assert same(read.steps, whole.steps)


def test_a_rank_summarises_itself_when_its_run_ends(tmp_path: Path) -> None:
    manifest = make_manifest(rank=RankFacts(0, 2, "one"))
    with Recorder(tmp_path / "rank-0", manifest=manifest) as recorder:
        for _ in recorder.steps(range(30)):
            pass
    found = read_summary(tmp_path / "rank-0")
    assert found is not None
    assert found.count == 30
    with Recorder(tmp_path / "alone") as recorder:
        for _ in recorder.steps(range(30)):
            pass
    assert not (tmp_path / "alone" / SUMMARY).exists()
    create_directory(tmp_path / "rank-0", force=True)  # it is profkit's own


def test_ranks_are_found_with_their_latest_restart(tmp_path: Path) -> None:
    write_launch(tmp_path, make_launch(12))
    for name in ("rank-3-restart-1", "rank-3-restart-10", "rank-3-restart-2"):
        (tmp_path / "rank-0").rename(tmp_path / name)
        write_launch(tmp_path / "again", make_launch(1))
        (tmp_path / "again" / "rank-0").rename(tmp_path / "rank-0")
    for name in ("ranks", "rank-x", "rank-01", "rank-1-restart-", "rank--1"):
        (tmp_path / name).mkdir()
    (tmp_path / "rank-99").write_text("a file")
    assert [one.rank for one in find_ranks(tmp_path)] == [0, 1, 2, 3, 3, 3, 3, *range(4, 12)]
    read = read_ranks(tmp_path)
    assert [(one.rank, one.restart) for one in read.ranks if one.rank == 3] == [(3, 10)]
    assert len(read.ranks) == 12
    assert any("rank-3, rank-3-restart-1, rank-3-restart-2" in gap for gap in read.gaps)


def test_a_run_directory_is_no_launch(tmp_path: Path) -> None:
    write_launch(tmp_path, make_launch(2))
    assert find_ranks(tmp_path / "rank-0") == ()
    assert find_ranks(tmp_path / "nowhere") == ()
    (tmp_path / MANIFEST).write_text("{}")
    assert find_ranks(tmp_path) == ()


def damage_summary(place: Path) -> None:
    path = place / SUMMARY
    path.write_bytes(path.read_bytes()[:-50])


def truncate(place: Path) -> None:
    (place / SUMMARY).unlink()
    path = place / STEPS
    path.write_bytes(path.read_bytes()[:-50])


def no_steps(place: Path) -> None:
    (place / SUMMARY).unlink()
    (place / STEPS).unlink()


def no_manifest(place: Path) -> None:
    (place / MANIFEST).unlink()


def future(place: Path) -> None:
    content = json.loads((place / MANIFEST).read_text())
    (place / MANIFEST).write_text(json.dumps({**content, "schema": 99}))


def garbage(place: Path) -> None:
    (place / SUMMARY).write_bytes(b"\x00" * 5000)
    (place / STEPS).write_bytes(b"\x00" * 5000)


@pytest.mark.parametrize(
    ("damage", "steps", "gap"),
    [
        (damage_summary, 60, "rank 1: summary.arrow is damaged: read from its steps"),
        (truncate, 50, "rank 1: steps.arrow ends in the middle"),
        (no_steps, 0, None),
        (no_manifest, None, "rank 1 cannot be read"),
        (future, None, "upgrade profkit"),
        (garbage, None, "rank 1 cannot be read"),
    ],
)
def test_a_damaged_rank_is_named_and_hides_no_other(
    tmp_path: Path, damage: object, steps: int | None, gap: str | None
) -> None:
    write_launch(tmp_path, make_launch(3))
    damage(tmp_path / "rank-1")  # type: ignore[operator]
    read = read_ranks(tmp_path)
    counts = {one.rank: one.summary.count for one in read.ranks}
    assert counts == {0: 60, 2: 60} if steps is None else {0: 60, 1: steps, 2: 60}
    assert read.unreadable == ((1,) if steps is None else ())
    assert any(gap in line for line in read.gaps) if gap else read.gaps == ()


def test_no_rank_that_can_be_read_is_an_error(tmp_path: Path) -> None:
    for rank in range(3):
        (tmp_path / f"rank-{rank}").mkdir()
    with pytest.raises(RunError, match="no rank's run can be read"):
        read_ranks(tmp_path)


def test_many_damaged_ranks_fill_no_page(tmp_path: Path) -> None:
    write_launch(tmp_path, make_launch(1))
    for rank in range(1, 40):
        (tmp_path / f"rank-{rank}").mkdir()
    gaps = read_ranks(tmp_path).gaps
    assert len(gaps) == 9
    assert gaps[-1] == "31 more ranks cannot be read"


def test_a_writer_without_steps_leaves_an_empty_summary(tmp_path: Path) -> None:
    RunWriter(tmp_path).close()
    summarize_run(tmp_path)
    found = read_summary(tmp_path)
    assert found is not None
    assert (found.count, len(found.steps)) == (0, 0)
