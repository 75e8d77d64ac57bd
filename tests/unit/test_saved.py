"""Saved measurements: what is kept, what is refused, and what they are compared by."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import make_manifest, make_steps
from profkit.analyze.quantity import Measurement
from profkit.analyze.since_saved import changes_since, environment_changes
from profkit.errors import InputError, OutputError, RunError
from profkit.ledgers import compare_lines, entries_of, ledger_of
from profkit.render.ledger import ledger_lines
from profkit.schema.decision import Decision, Outcome
from profkit.schema.estimate import Estimate
from profkit.schema.ledger import Asserted, Ledger, Result
from profkit.schema.stage import Stage
from profkit.store.saved import (
    check_new,
    check_replaceable,
    read_ledger,
    saved_names,
    saved_path,
    write_ledger,
)


def measurement(forward_ns: int = 2_000_000, name: str = "train", seed: int = 0) -> Measurement:
    stages = {Stage.DATALOADER: 1_000_000, Stage.FORWARD: forward_ns, Stage.OTHER: 10_000}
    return Measurement(name, make_steps(stages, 100, noise=0.05, seed=seed))


def ledger(*measurements: Measurement) -> Ledger:
    return ledger_of(entries_of("tests/test_a.py::test_x", measurements))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    claim = Asserted(
        test="",
        claim="share of dataloader in train below 20 %",
        result=Result.FAILED,
        decisions=(
            Decision("share", "share", Estimate(float("nan"), None, None, 3), 0.2, Outcome.ABOVE),
        ),
        steps=(100,),
        blocks=20,
        looks=1,
        measured_s=0.0,
    )
    entries = entries_of("test_a.py::test_x", [measurement(), claim])
    json.dumps(entries)  # what travels between processes is plain
    whole = ledger_of(entries)
    path = saved_path(tmp_path, "base")
    write_ledger(path, whole)
    assert read_ledger(path) == replace(whole, asserted=())
    raw = json.loads(path.read_text())
    assert raw["schema"] == 1
    assert raw["asserted"][0]["decisions"][0]["estimate"]["value"] is None
    assert raw["asserted"][0]["test"] == "test_a.py::test_x"
    assert raw["measured"][0]["shares"]["transfer"] is None
    assert saved_names(tmp_path) == ["base"]


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "x" * 65, "a\n"])
def test_a_name_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no name"):
        saved_path(tmp_path, name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no saved measurements"),
        ("[1]", "holds no saved measurements"),
        ('{"schema": 1}', "holds no saved measurements"),
        ('{"schema": 99}', "schema 99; this profkit reads up to 1: upgrade profkit"),
        ("[" * 100_000, "holds no saved measurements"),
    ],
)
def test_what_is_no_ledger_is_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "base.json"
    path.write_text(content)
    with pytest.raises(RunError, match=message) as caught:
        read_ledger(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="not written by profkit"):
        check_replaceable(path)
    assert path.read_text() == content


def test_nothing_saved_is_lost(tmp_path: Path) -> None:
    path = saved_path(tmp_path, "base")
    check_new(path)
    check_replaceable(path)
    write_ledger(path, ledger(measurement()))
    check_replaceable(path)
    with pytest.raises(OutputError, match="exists already"):
        check_new(path)
    with pytest.raises(OutputError, match="is a directory"):
        check_replaceable(tmp_path)


def test_a_change_since_then_is_found_stage_by_stage() -> None:
    now, then = ledger(measurement(3_000_000, seed=1)), ledger(measurement())
    changes, unknown = changes_since(now.measured, then)
    ratios = {one.what: one.ratio for one in changes}
    assert list(ratios) == ["step", "dataloader", "forward", "other"]
    forward, wait = ratios["forward"], ratios["dataloader"]
    assert forward is not None
    assert forward.low is not None
    assert 1.4 < forward.low < 1.5 < forward.high < 1.6  # type: ignore[operator]
    assert wait is not None
    assert wait.low < 1 < wait.high  # type: ignore[operator]
    assert unknown == []


def test_several_of_a_name_keep_their_order_and_strangers_are_named() -> None:
    now = ledger(measurement(), measurement(), measurement(name="other"))
    assert [one.name for one in now.measured] == ["train", "train 2", "other"]
    changes, unknown = changes_since(now.measured, ledger(measurement(), measurement()))
    assert {one.name for one in changes} == {"train", "train 2"}
    assert unknown == ["tests/test_a.py::test_x other"]


def test_a_stage_that_only_one_of_them_saw_has_no_ratio() -> None:
    bare = Measurement("train", make_steps({Stage.DATALOADER: 1_000_000}, 100, noise=0.05))
    changes, _ = changes_since(ledger(bare).measured, ledger(measurement()))
    forward = next(one for one in changes if one.what == "forward")
    assert (forward.new_ns, forward.ratio) == (None, None)


def test_other_hardware_and_versions_are_named(tmp_path: Path) -> None:
    here = make_manifest().environment
    there = replace(
        here,
        hardware=replace(
            here.hardware, processor="Another one", memory_bytes=2**33, gpus=("Big GPU",)
        ),
        inter_op_threads=4,
        commit="another",
        versions={"python": "3.12.1", "torch": "2.9"},
    )
    assert environment_changes(here, here) == []
    assert environment_changes(here, there) == [
        "processor: Test processor, was Another one",
        f"memory: {2**34} bytes, was {2**33} bytes",
        "GPUs: none, was Big GPU",
        "inter-op threads: 2, was 4",
        "version of python: 3.11.0, was 3.12.1",
        "version of torch: not known, was 2.9",
    ]
    path = saved_path(tmp_path, "base")
    write_ledger(path, replace(ledger(measurement()), environment=there))
    lines = compare_lines(replace(ledger(measurement()), environment=here), path)
    assert any("not the same place" in line and "Another one" in line for line in lines)


def test_hostile_names_stay_in_their_cells(tmp_path: Path) -> None:
    hostile = "a\nb\x1b[31m|" + "x" * 500
    path = saved_path(tmp_path, "base")
    entries = entries_of(f"test_{hostile}.py::test", [measurement(name=hostile)])
    write_ledger(path, ledger_of(entries))
    lines = [*ledger_lines(ledger_of(entries)), *compare_lines(ledger(measurement()), path)]
    assert not any("\x1b" in line or "\n" in line or len(line) > 400 for line in lines)
