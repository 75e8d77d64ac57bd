"""Results of trainings: kept as each ends, found again by what they have in common."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from experiments.mnist import results
from experiments.mnist.ladders import rung_named
from experiments.mnist.machine import Machine
from experiments.mnist.results import InUseError, Key, Result, Results, code_of, key_of
from experiments.mnist.task import Task
from experiments.mnist.train import Epoch, Training

TRAINING = Training(1.5, 0.0, 20.25, 938, (Epoch(18.0, 0.75, 0.9871, 0.04, 938),))
MACHINE = Machine("two cores", "torch 2", "0123abc", "cpu")


def a_key(seed: int = 0) -> Key:
    return key_of(Task(rung_named("batch_128"), seed), MACHINE)


def a_result(seed: int = 0) -> Result:
    return Result(a_key(seed), "batch_128", "ladder", "0123abc", "2026-01-31", TRAINING)


def kept(directory: Path, *found: Result) -> None:
    to = Results(directory)
    for one in found:
        to.add(one)
    to.close()


def test_what_was_kept_is_found_by_another_process(tmp_path: Path) -> None:
    kept(tmp_path / "kept", a_result())
    again = Results(tmp_path / "kept")
    assert again.of(a_key(), "ladder") == a_result()
    assert again.of(a_key(seed=1), "ladder") is None


def test_another_machine_version_recipe_or_code_is_another_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(tmp_path, a_result())
    found = Results(tmp_path)
    rung = rung_named("batch_128")
    for machine in (replace(MACHINE, hardware="four cores"), replace(MACHINE, versions="torch 3")):
        assert found.of(key_of(Task(rung, 0), machine), None) is None
    for task in (
        Task(rung, 0, changes={"data.batch_size": 32}),
        Task(rung, 0, is_validated=True),
        Task(rung_named("tuned"), 0),
    ):
        assert found.of(key_of(task, MACHINE), None) is None
    one_cycle = Task(rung_named("one_cycle"), 0)
    assert key_of(replace(one_cycle, is_isolated=True), MACHINE) != key_of(one_cycle, MACHINE)
    # The commit is stated, but decides nothing: most commits change no training.
    assert found.of(key_of(Task(rung, 0), replace(MACHINE, commit="4567def")), None) == a_result()
    other = tmp_path / "train.py"
    other.write_text("def train() -> None: ...\n")
    monkeypatch.setattr(results, "_TRAINING", [other])
    assert found.of(a_key(), None) is None


def test_code_is_what_it_says_not_how_it_looks(tmp_path: Path) -> None:
    texts = ("lr = 0.1\n", "# why\nlr   =   0.1\n", "lr = 0.2\n")
    words = []
    for row, text in enumerate(texts):
        path = tmp_path / f"{row}.py"
        path.write_text(text)
        words.append(code_of([path]))
    assert words[0] == words[1] != words[2]


def test_a_line_that_was_being_written_is_cut_off(tmp_path: Path) -> None:
    kept(tmp_path, a_result(0))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    kept(tmp_path, a_result(1))
    again = Results(tmp_path)
    assert [again.of(a_key(seed), "ladder") for seed in (0, 1)] == [a_result(0), a_result(1)]


def test_a_line_of_another_version_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"key": 3}\n')
    with pytest.raises(click.ClickException, match=r"results\.jsonl: .*give another --kept"):
        Results(tmp_path)


def test_a_training_that_diverged_is_kept_as_such(tmp_path: Path) -> None:
    lost = replace(TRAINING, epochs=(Epoch(18.0, 0.75, 0.098, None, 938),))
    kept(tmp_path, replace(a_result(), training=lost))
    again = Results(tmp_path).of(a_key(), None)
    assert again is not None
    assert again.training == lost


def test_what_was_timed_elsewhere_stands_for_accuracy_only(tmp_path: Path) -> None:
    kept(tmp_path, replace(a_result(), series=None), replace(a_result(), series="beyond"))
    found = Results(tmp_path)
    assert found.of(a_key(), "ladder") is None
    assert found.of(a_key(), None) == replace(a_result(), series=None)
    found.add(a_result())
    assert found.of(a_key(), "ladder") == a_result()


def test_a_directory_is_one_command_s_and_of_the_trainings_it_started(tmp_path: Path) -> None:
    first = Results(tmp_path)
    with pytest.raises(InUseError, match="in use by another command"):
        Results(tmp_path)
    wait = [sys.executable, "-c", "input()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE, pass_fds=(first.lock,)) as orphan:
        first.close()
        with pytest.raises(InUseError, match="a training that one left running"):
            Results(tmp_path)
        orphan.communicate(b"\n")
    Results(tmp_path).close()
