"""Results of trainings: kept as each ends, found again by what they have in common."""

from dataclasses import replace
from pathlib import Path

from experiments.mnist.ladders import rung_named
from experiments.mnist.results import Key, Result, Results, key_of
from experiments.mnist.train import Epoch, Training

TRAINING = Training(1.5, 0.0, 20.25, 938, (Epoch(18.0, 0.75, 0.9871, 0.04),))


def a_key(seed: int = 0) -> Key:
    return key_of(rung_named("batch_128"), seed, "a machine", "torch 2", is_isolated=False)


def a_result(seed: int = 0) -> Result:
    return Result(a_key(seed), "0123abc", True, TRAINING)


def test_what_was_kept_is_found_by_another_process(tmp_path: Path) -> None:
    Results(tmp_path / "kept").add(a_result())
    again = Results(tmp_path / "kept")
    assert again.of(a_key(), is_timed=True) == a_result()
    assert again.of(a_key(seed=1), is_timed=True) is None


def test_another_machine_version_or_recipe_is_another_training(tmp_path: Path) -> None:
    kept = Results(tmp_path)
    kept.add(a_result())
    assert kept.of(replace(a_key(), machine="another"), is_timed=True) is None
    assert kept.of(replace(a_key(), versions="torch 3"), is_timed=True) is None
    isolated = key_of(rung_named("one_cycle"), 0, "a machine", "torch 2", is_isolated=True)
    with_riders = key_of(rung_named("one_cycle"), 0, "a machine", "torch 2", is_isolated=False)
    assert isolated.recipe != with_riders.recipe


def test_a_line_that_was_being_written_is_cut_off(tmp_path: Path) -> None:
    Results(tmp_path).add(a_result(0))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    again = Results(tmp_path)
    assert again.all() == (a_result(0),)
    again.add(a_result(1))
    assert Results(tmp_path).all() == (a_result(0), a_result(1))


def test_a_training_that_diverged_is_kept_as_such(tmp_path: Path) -> None:
    lost = replace(a_result(), training=replace(TRAINING, epochs=(Epoch(18.0, 0.75, 0.098, None),)))
    Results(tmp_path).add(lost)
    assert Results(tmp_path).all() == (lost,)


def test_a_training_that_was_not_alone_stands_for_accuracy_only(tmp_path: Path) -> None:
    kept = Results(tmp_path)
    beside = replace(a_result(), is_timed=False)
    kept.add(beside)
    assert kept.of(a_key(), is_timed=True) is None
    assert kept.of(a_key(), is_timed=False) == beside
    kept.add(a_result())
    assert kept.of(a_key(), is_timed=True) == a_result()
