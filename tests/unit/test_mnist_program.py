"""What a training's own process does when the system lacks what a recipe asks for."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.mnist import climbing, program
from experiments.mnist.ladders import rung_named
from experiments.mnist.recipe import Recipe
from experiments.mnist.train import Epoch, Training


@pytest.fixture
def without_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ctypes", SimpleNamespace(CDLL=lambda name: SimpleNamespace()))


def trained_by(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> Recipe:
    asked: list[Recipe] = []

    def train(recipe: Recipe, files: None, **_: Any) -> tuple[Training, None]:
        asked.append(recipe)
        return Training(0.0, 0.0, 1.0, 10, (Epoch(1.0, 0.0, 0.9, 0.1, 10),)), None

    monkeypatch.setattr(program, "train", train)
    monkeypatch.setattr(program, "mnist_at", lambda data_dir: None)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])
    program.main()
    return asked[0]


@pytest.mark.parametrize("rung", ["memory_kept", "ends_early"])
def test_memory_that_cannot_be_kept_is_a_stated_gap(
    rung: str,
    without_mallopt: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = trained_by([rung], monkeypatch)
    assert not recipe.compute.keeps_freed_memory
    words = "freed memory is not kept: the C library has no mallopt"
    assert capsys.readouterr().err == f"gap: {words}\n"
    found = SimpleNamespace(rung=rung_named(rung), results=[])
    assert f"- gap: {rung}: {words}" in climbing._notes([found])  # type: ignore[list-item]


def test_what_can_be_done_is_done_and_no_gap(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained_by(["memory_kept"], monkeypatch) == rung_named("memory_kept").recipe
    assert capsys.readouterr().err == ""
    found = SimpleNamespace(rung=rung_named("memory_kept"), results=[])
    assert not any("gap" in line for line in climbing._notes([found]))  # type: ignore[list-item]
