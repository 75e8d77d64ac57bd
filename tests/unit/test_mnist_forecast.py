"""Which question of what-if each rung asks of the one before."""

import pytest

from experiments.mnist.fastmlp_rungs import FASTMLP
from experiments.mnist.forecast import questions, together
from experiments.mnist.ladder import Ladder
from experiments.mnist.ladders import rung_named
from experiments.mnist.recipe import Precision, Recipe, changed
from experiments.mnist.rungs import LADDER
from profkit import Change, Question


def asked_of(name: str, ladder: Ladder = LADDER) -> tuple[tuple[Question, ...], str]:
    rung = rung_named(name)
    return questions(ladder.rungs[rung.number - 1].recipe, rung.isolated)


def test_what_changes_no_step_asks_nothing() -> None:
    assert asked_of("early_stopping") == ((), "")
    assert asked_of("mlp_ends_early", FASTMLP) == ((), "")


def test_data_in_memory_and_larger_batches_are_asked_for() -> None:
    assert asked_of("data_loading")[0] == (Question(Change.MEMORY),)
    assert asked_of("batch_128")[0] == (Question(Change.BATCH, amount=2.0),)
    assert asked_of("no_workers", FASTMLP)[0] == (Question(Change.WORKERS, amount=0),)


def test_a_smaller_network_is_asked_for_by_its_operations() -> None:
    found, words = asked_of("smaller_net")
    # Per image: 11.99 million multiply-adds become 2.64 million (13 x 13 maps instead of 26 x 26).
    assert [(one.change, one.name) for one in found] == [
        (Change.PART, "forward"),
        (Change.PART, "backward"),
    ]
    left = (194_688 + 11 * 11 * 9 * 32 * 64 + 1600 * 128 + 1_280) / (
        194_688 + 10_616_832 + 1_179_648 + 1_280
    )
    assert found[0].amount == pytest.approx(1 - left)
    assert f"forward {100 * left:.0f} %" in words


def test_more_work_and_several_changes_are_not_guessed() -> None:
    assert asked_of("tuned")[0] == ()
    assert "at once" in asked_of("tuned")[1]
    larger = changed(Recipe(), {"network.widths": (64, 64)})
    assert questions(Recipe(), larger)[0] == ()
    assert "nothing asks what more work takes" in questions(Recipe(), larger)[1]
    # A rate that changes with each batch is one more thing that a step does.
    assert asked_of("one_cycle") == ((), "nothing asks that: schedule.curve")
    smoothed = changed(Recipe(), {"label_smoothing": 0.1})
    assert questions(Recipe(), smoothed) == ((), "nothing asks that: label_smoothing")


def test_fixes_that_no_recording_knows_are_to_be_tried() -> None:
    bf16 = changed(Recipe(), {"compute.precision": Precision.BF16})
    assert questions(Recipe(), bf16) == ((Question(Change.TRY, "bf16 autocast"),), "bf16 autocast")
    both = changed(bf16, {"compute.channels_last": True})
    assert questions(Recipe(), both)[0] == ()


def test_savings_of_one_step_add_up() -> None:
    # A quarter and a half of the step go.
    assert together([4 / 3, 2.0]) == pytest.approx(4.0)
    assert together([2.0, None]) is None
