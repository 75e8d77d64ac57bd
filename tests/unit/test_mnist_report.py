"""What the ladder's report says of made-up trainings."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from experiments.mnist import dominance
from experiments.mnist.__main__ import main
from experiments.mnist.dominance import Dominance
from experiments.mnist.figures import draw_accuracy, draw_forecasts, draw_rungs
from experiments.mnist.findings import RungFindings, Step
from experiments.mnist.forecast import Forecast
from experiments.mnist.ladder_report import render, render_dominance
from experiments.mnist.ladders import rung_named
from experiments.mnist.results import Result, key_of
from experiments.mnist.train import Epoch, Training
from profkit import Question
from profkit.schema.estimate import Estimate

STEP = Step(
    20.0,
    {"dataloader": 0.25, "transfer": None, "forward": 0.35, "backward": 0.35, "optimizer": 0.05},
    "input-bound: 25 % of the step is data wait",
    "input-bound",
)


def results(name: str, epoch_s: float, accuracies: list[float]) -> list[Result]:
    rung = rung_named(name)
    found = []
    for seed, accuracy in enumerate(accuracies):
        epochs = tuple(Epoch(epoch_s + seed, 1.0, accuracy, 0.1) for _ in range(3))
        training = Training(2.0, sum(one.train_s + one.test_s for one in epochs), 938, epochs)
        key = key_of(rung, seed, "a machine", "torch 2", is_isolated=False)
        found.append(Result(key, "0123abc", True, None, training))
    return found


@pytest.fixture
def found() -> list[RungFindings]:
    before = rung_named("smaller_net")
    after = rung_named("data_loading")
    said = Forecast(1.3, 1.2, 1.5, "the data in memory")
    return [
        RungFindings(before, results("smaller_net", 20.0, [0.99, 0.992, 0.991]), [], STEP, None),
        RungFindings(
            after,
            results("data_loading", 15.0, [0.99]),
            results("data_loading", 16.0, [0.99, 0.99]),
            STEP,
            said,
        ),
    ]


def line_of(lines: list[str], start: str, nth: int = 0) -> str:
    return [line for line in lines if line.startswith(start)][nth]


def test_times_are_medians_over_seeds(found: list[RungFindings]) -> None:
    lines = render(found)
    # 3 epochs of 20 + 1, 21 + 1 and 22 + 1 s.
    first = line_of(lines, "| 2 smaller_net |")
    assert first == "| 2 smaller_net | 66 (64.5 to 67.5) | 3 | – | 1 | 3 | 99.10 (0.10) | 30.3 |"
    second = line_of(lines, "| 3 data_loading |")
    assert second == "| 3 data_loading | 48 | 1 | 1.38 | 1.38 | 3 | 99.00 | 7.31 |"


def test_stages_that_were_not_observed_are_absent_not_zero(found: list[RungFindings]) -> None:
    row = line_of(render(found), "| 2 smaller_net |", 1)
    assert row == (
        "| 2 smaller_net | 20 | 25.0 | – | 35.0 | 35.0 | 5.0 "
        "| input-bound: 25 % of the step is data wait |"
    )


def test_predicted_stands_beside_measured(found: list[RungFindings]) -> None:
    row = line_of(render(found), "| data_loading |")
    assert row == "| data_loading | 1.30 (1.20 to 1.50) | 1.40 | 21 | 15 | the data in memory |"


def test_changes_without_riders_are_told_where_they_were_measured(
    found: list[RungFindings],
) -> None:
    lines = render(found)
    row = line_of(lines, "| 3 data_loading |", 2)
    assert row.startswith("| 3 data_loading | 66 (64.5 to 67.5) | 52.5 (51.8 to 53.2) | 48 | 21 |")
    said = line_of(lines, "- **3 data_loading**")
    assert "Change: `data.source` one tensor on the device." in said
    assert "Riders: `data.reshuffle` False" in said
    assert not any("without their riders" in line for line in render(found[:1]))


def test_what_data_loading_lacks_to_dominate() -> None:
    lines = render_dominance(
        {
            "smaller_net": Dominance(0.25, 3.5, 2.0),
            "initial": Dominance(0.02, None, None),
            "no_workers": Dominance(0.92, 1.0, 1.0),
        }
    )
    assert lines[-4:-1] == [
        "| smaller_net | 25.0 | 3.5× | 2× faster |",
        "| initial | 2.0 | no speed does | unknown |",
        "| no_workers | 92.0 | it does here | it does here |",
    ]
    assert render_dominance({}) == []


def test_half_of_the_step_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data wait 30, the rest 10, computing 60: at 20 of it, data wait is half of 60."""
    shares = {"dataloader": 0.3, "forward": 0.2, "backward": 0.4, "optimizer": 0.1}
    step = replace(STEP, stage_shares=shares)
    asked = []

    def answer(run: Path, questions: list[Question]) -> SimpleNamespace:
        asked.extend(questions)
        taken = [1 / (1 - one.amount * shares[one.name]) for one in questions]
        answers = [SimpleNamespace(speedup=Estimate(one, None, None, 9)) for one in taken]
        return SimpleNamespace(answers=answers)

    monkeypatch.setattr(dominance, "step_of", lambda run: step)
    monkeypatch.setattr(dominance.profkit, "what_if", answer)
    found = dominance.dominance_of(Path("run"))
    assert found.times == pytest.approx(3.0)
    assert found.speedup == pytest.approx(100 / 60)
    assert [one.amount for one in asked] == pytest.approx([2 / 3, 2 / 3])
    shares["optimizer"], shares["backward"] = 0.35, 0.15
    assert dominance.dominance_of(Path("run")) == Dominance(0.3, None, None)
    shares["dataloader"] = 0.6
    assert dominance.dominance_of(Path("run")).times == 1.0


def test_figures_are_the_same_for_the_same_findings(found: list[RungFindings]) -> None:
    for draw in (draw_rungs, draw_accuracy, draw_forecasts):
        text = draw(found, "hardware; seeds; data; commit")
        assert text is not None
        assert text == draw(found, "hardware; seeds; data; commit")
        assert "hardware; seeds; data; commit" in text
    assert draw_forecasts(found[:1], "") is None


@pytest.mark.parametrize(
    ("rungs", "words"),
    [("9", "there is no rung 9; there are 0 to 8"), ("a", "write 0-8, 3 or 0,2,5-7"), ("3-1", "")],
)
def test_rungs_that_are_not_there_are_refused(rungs: str, words: str) -> None:
    said = CliRunner().invoke(main, ["ladder", "--rungs", rungs])
    assert said.exit_code == 2
    assert words in said.output
