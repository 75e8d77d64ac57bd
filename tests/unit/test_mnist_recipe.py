"""Recipes as data: what may be changed, and what a ladder declares."""

import ast
import math
from pathlib import Path

import pytest

from experiments.mnist.ladder import Ladder
from experiments.mnist.ladders import LADDERS, rung_named
from experiments.mnist.recipe import Curve, Recipe, Source, changed, difference


def test_a_change_is_found_again() -> None:
    after = changed(Recipe(), {"data.batch_size": 128, "log_every": None})
    assert (after.data.batch_size, after.log_every) == (128, None)
    assert difference(Recipe(), after) == {"data.batch_size": 128, "log_every": None}
    assert difference(after, after) == {}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("data.batchsize", 128, "no batchsize among source, batch_size"),
        ("dat.batch_size", 128, "no dat among data, network"),
        ("data.batch_size", 64, "is 64 already: the change changes nothing"),
        ("data.batch_size.x", 1, "batch_size has no parts"),
        ("data", None, "change its parts one by one, such as data.source"),
    ],
)
def test_what_is_no_change_is_refused(path: str, value: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(Recipe(), {path: value})


def a_ladder() -> Ladder:
    ladder = Ladder("one", "One", aim=0.99)
    ladder.begin("first", Recipe(), why="It is there.")
    return ladder


def test_riders_are_apart_from_the_change() -> None:
    ladder = a_ladder()
    ladder.step(
        "second", change={"data.source": Source.RESIDENT}, riders={"log_every": None}, why="Speed."
    )
    first, second = ladder
    assert difference(first.recipe, second.isolated) == {"data.source": Source.RESIDENT}
    assert difference(second.isolated, second.recipe) == {"log_every": None}
    assert (first.number, second.number) == (0, 1)


def test_a_rung_that_contradicts_itself_is_refused() -> None:
    ladder = a_ladder()
    with pytest.raises(ValueError, match="log_every is both a change and a rider"):
        ladder.step("x", change={"log_every": 5}, riders={"log_every": None}, why="")
    with pytest.raises(ValueError, match="first: there is such a rung already"):
        ladder.step("first", change={"log_every": 5}, why="")
    assert len(ladder.rungs) == 1


@pytest.mark.parametrize("ladder", LADDERS, ids=lambda ladder: ladder.name)
def test_each_rung_is_what_it_declares(ladder: Ladder) -> None:
    for rung in ladder.rungs[1:]:
        assert rung.on is not None
        before = ladder.named(rung.on)
        assert before.number < rung.number
        assert difference(before.recipe, rung.recipe) == {**rung.change, **rung.riders}
        assert difference(before.recipe, rung.isolated) == dict(rung.change)
        assert rung.change, rung.name


def test_names_are_unique_over_all_ladders() -> None:
    names = [rung.name for ladder in LADDERS for rung in ladder]
    assert len(names) == len(set(names))
    assert rung_named("one_cycle").recipe.schedule.curve is Curve.ONE_CYCLE
    with pytest.raises(ValueError, match="no rung 'two_cycles'; there are initial"):
        rung_named("two_cycles")


def test_the_whole_ladder_is_published_as_226_times() -> None:
    first, *_, last = LADDERS[0]
    assert first.published_s is not None
    assert last.published_s is not None
    assert math.isclose(first.published_s / last.published_s, 226, abs_tol=0.5)


def test_the_loop_knows_no_rung() -> None:
    names = {rung.name for ladder in LADDERS for rung in ladder}
    for node in ast.walk(ast.parse(Path("experiments", "mnist", "train.py").read_text())):
        if isinstance(node, ast.Constant):
            assert node.value not in names
        if isinstance(node, ast.ImportFrom):
            assert "ladder" not in (node.module or "")
            assert "rungs" not in (node.module or "")
