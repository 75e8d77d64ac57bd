"""What the ladder's report says of made-up trainings."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from experiments.mnist import dominance
from experiments.mnist.__main__ import main
from experiments.mnist.claims import convolution, reductions
from experiments.mnist.dominance import Dominance
from experiments.mnist.figures import draw_accuracy, draw_forecasts, draw_rungs
from experiments.mnist.findings import RungFindings, Step
from experiments.mnist.forecast import Forecast
from experiments.mnist.ladder_report import gain_interval, render, render_dominance
from experiments.mnist.ladders import rung_named
from experiments.mnist.machine import Machine
from experiments.mnist.rates import Peak
from experiments.mnist.results import Result, key_of
from experiments.mnist.task import Task
from experiments.mnist.train import Epoch, Training
from profkit import Question
from profkit.schema.estimate import Estimate

MACHINE = Machine("a machine", "torch 2", "0123abc", "cpu")
PEAK = Peak(2048, 20, {"fp32": 1e11, "bf16": 2e11})
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
        epochs = tuple(Epoch(epoch_s + seed, 1.0, accuracy, 0.1, 938) for _ in range(3))
        training = Training(2.0, 0.0, sum(one.train_s + one.test_s for one in epochs), 938, epochs)
        key = key_of(Task(rung, seed), MACHINE)
        found.append(Result(key, name, "ladder", "0123abc", "2026-01-31", training))
    return found


@pytest.fixture
def found() -> list[RungFindings]:
    before = rung_named("smaller_net")
    after = rung_named("data_loading")
    said = Forecast(1.3, 1.2, 1.5, "the data in memory")
    changed = RungFindings(
        before, results("smaller_net", 20.0, [0.99, 0.992, 0.991]), [], STEP, None, None
    )
    in_memory = replace(STEP, stage_shares={**STEP.stage_shares, "dataloader": 0.05})
    return [
        changed,
        RungFindings(
            after,
            results("data_loading", 15.0, [0.988]),
            results("data_loading", 16.0, [0.99, 0.99]),
            in_memory,
            changed,
            said,
        ),
    ]


def line_of(lines: list[str], start: str, nth: int = 0) -> str:
    return [line for line in lines if line.startswith(start)][nth]


def test_times_are_medians_over_seeds(found: list[RungFindings]) -> None:
    lines = render(found, 0.99, PEAK)
    # 3 epochs of 20 + 1, 21 + 1 and 22 + 1 s; the first of them reaches 99 %.
    first = line_of(lines, "| 2 smaller_net |")
    assert first == (
        "| 2 smaller_net | early_stopping | 66 (64.5 to 67.5) | 3 | – | 1 | 3 | 99.10 (0.10) "
        "| 22 (21.5 to 22.5) | 2, in it | 30.3 |"
    )
    second = line_of(lines, "| 3 data_loading |")
    assert second == (
        "| 3 data_loading | smaller_net | 48 | 1 | 1.38 | 1.38 | 3 | 98.80 | not reached "
        "| 2, beside it | 7.31 |"
    )


def test_what_diverged_is_said(found: list[RungFindings]) -> None:
    lost = replace(found[1], results=results("data_loading", 15.0, [0.098, 0.99]))
    row = line_of(render([lost], 0.99, PEAK), "| 3 data_loading |")
    assert "54.40 (63.07); 1 of 2 diverged" in row
    assert "| 17; 1 of 2 |" in row


def test_a_change_is_told_by_stage_and_by_what_it_gains(found: list[RungFindings]) -> None:
    row = line_of(render(found, 0.99, PEAK), "| 3 data_loading |", 2)
    # A quarter of 21 s was data wait, a twentieth of 15 s is.
    assert row == (
        "| 3 data_loading | smaller_net | -4.50 | – | -2.10 | -2.10 | -0.30 | -6.00 "
        "| -0.20 | -0.20 |"
    )
    assert gain_interval([0.98, 0.98, 0.98], [0.99, 0.992, 0.988]) == "+1.00 (+0.50 to +1.50)"


def test_rates_are_operations_over_the_time_of_their_stages(found: list[RungFindings]) -> None:
    row = line_of(render(found, 0.99, PEAK), "| 2 smaller_net |", 2)
    forward = 2 * (26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 128 + 1280)
    backward = 2 * forward - 2 * 26 * 26 * 9 * 32
    rate = 938 * 64 * (forward + backward) / (0.7 * 21) / 1e9
    assert row == (
        f"| 2 smaller_net | {forward / 1e6:.2f} | {backward / 1e6:.2f} | {rate:.1f} "
        f"| {rate:.1f} of fp32 |"
    )


def test_the_claim_is_judged_by_each_definition(found: list[RungFindings]) -> None:
    lines = reductions(found, PEAK)
    # Data wait 0.75 s for 5.25; by the whole training 48 s for 66.
    assert line_of(lines, "| data_loading |") == (
        "| data_loading | -86 % | -80 % | -29 % | -27 % | -27 % |"
    )
    assert "- data wait, s an epoch: data_loading" in lines
    assert "- s an epoch: none of them" in lines


def test_the_convolution_of_the_argument_is_counted() -> None:
    text = "\n".join(convolution([], PEAK))
    assert "= 17.28 million multiply-adds, or 34.56 million operations" in text
    assert "counted as it ran: 34.56 million" in text


def test_stages_that_were_not_observed_are_absent_not_zero(found: list[RungFindings]) -> None:
    row = line_of(render(found, 0.99, PEAK), "| 2 smaller_net |", 1)
    assert row == (
        "| 2 smaller_net | 20 | 25.0 | – | 35.0 | 35.0 | 5.0 "
        "| input-bound: 25 % of the step is data wait |"
    )


def test_predicted_stands_beside_measured(found: list[RungFindings]) -> None:
    row = line_of(render(found, 0.99, PEAK), "| data_loading |")
    assert row == "| data_loading | 1.30 (1.20 to 1.50) | 1.40 | 21 | 15 | the data in memory |"


def test_changes_without_riders_are_told_where_they_were_measured(
    found: list[RungFindings],
) -> None:
    lines = render(found, 0.99, PEAK)
    row = line_of(lines, "| 3 data_loading |", 4)
    assert row.startswith("| 3 data_loading | 66 (64.5 to 67.5) | 52.5 (51.8 to 53.2) | 48 | 21 |")
    said = line_of(lines, "- **3 data_loading**")
    assert "Change on smaller_net: `data.source` one tensor on the device." in said
    assert "Riders: `data.reshuffle` False" in said
    assert not any("without their riders" in line for line in render(found[:1], 0.99, PEAK))


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
    for draw in (draw_rungs, partial(draw_accuracy, aim=0.99), draw_forecasts):
        text = draw(found, note="hardware; seeds; data; commit")
        assert text is not None
        assert text == draw(found, note="hardware; seeds; data; commit")
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
