"""What the ladder's report says of made-up trainings."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from experiments.mnist import checks, dominance, rates
from experiments.mnist.__main__ import main
from experiments.mnist.claims import convolution, reductions
from experiments.mnist.dominance import Dominance, Recorded
from experiments.mnist.figures import draw_accuracy, draw_forecasts, draw_rungs
from experiments.mnist.findings import RungFindings, Step, epoch_s_of
from experiments.mnist.forecast import Forecast
from experiments.mnist.ladder_report import gain_interval, render, render_dominance
from experiments.mnist.ladders import LADDERS, rung_named
from experiments.mnist.machine import Machine
from experiments.mnist.rates import Peak, peak_beside
from experiments.mnist.results import Result, key_of
from experiments.mnist.rungs import LADDER
from experiments.mnist.task import Task
from experiments.mnist.train import Epoch, Training
from profkit import Question
from profkit.schema.estimate import Estimate

MACHINE = Machine("a machine", "torch 2", "0123abc", "cpu")
PEAK = Peak("cpu", 2048, 20, {"fp32": 1e11, "bf16": 2e11})
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
    said = Forecast(1.3, 1.2, 1.5, None, "the data in memory")
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
    lines = render(found, LADDER, PEAK)
    # 3 epochs of 20 + 1, 21 + 1 and 22 + 1 s; the first of them reaches 99 %.
    first = line_of(lines, "| 2 smaller_net |")
    assert first == (
        "| 2 smaller_net | early_stopping | 66 (64.5 to 67.5) | 3 | – | 1 | 3 | 99.10 (0.10) "
        "| 22 (21.5 to 22.5) | 2, in it | 30.3 |"
    )
    second = line_of(lines, "| 3 data_loading |")
    assert second == (
        "| 3 data_loading | smaller_net | 48 | 1 | 1.31 | 1.38 | 3 | 98.80 | not reached "
        "| 2, beside it | 7.31 |"
    )


def test_what_diverged_is_said(found: list[RungFindings]) -> None:
    lost = replace(found[1], results=results("data_loading", 15.0, [0.098, 0.99]))
    row = line_of(render([lost], LADDER, PEAK), "| 3 data_loading |")
    assert "54.40 (63.07); 1 of 2 diverged" in row
    assert "| 17; 1 of 2 |" in row


def test_a_change_is_told_by_stage_and_by_what_it_gains(found: list[RungFindings]) -> None:
    row = line_of(render(found, LADDER, PEAK), "| 3 data_loading |", 2)
    # A quarter of 938 steps of 20 ms was data wait, a twentieth of as many is.
    assert row == (
        "| 3 data_loading | smaller_net | -3.75 | – | +0.00 | +0.00 | +0.00 | -6.00 "
        "| -0.20 | -0.20 |"
    )
    assert gain_interval([0.98, 0.98, 0.98], [0.99, 0.992, 0.988]) == "+1.00 (+0.50 to +1.50)"


def test_a_recorded_epoch_unlike_the_others_is_said(found: list[RungFindings]) -> None:
    # 938 steps of 20 ms: 18.8 s beside a median of 21 s, and beside 15 s.
    said = line_of(render(found, LADDER, PEAK), "Recorded epochs that took over 15 %")
    assert said.endswith(": data_loading +25 %.")
    alike = replace(found[1], step=replace(found[1].step, mean_ms=16.0))
    text = "\n".join(render([found[0], alike], LADDER, PEAK))
    assert "Recorded epochs that took over" not in text


def test_rates_are_operations_over_the_time_of_their_stages(found: list[RungFindings]) -> None:
    row = line_of(render(found, LADDER, PEAK), "| 2 smaller_net |", 2)
    forward = 2 * (26 * 26 * 9 * 32 + 11 * 11 * 9 * 32 * 64 + 1600 * 128 + 1280)
    backward = 2 * forward - 2 * 26 * 26 * 9 * 32
    # The last batch is not full: 938 batches of 64 would be 60,032 images.
    rate = 60_000 * (forward + backward) / (0.7 * 938 * 0.020) / 1e9
    assert row == (
        f"| 2 smaller_net | {forward / 1e6:.2f} | {backward / 1e6:.2f} | {rate:.1f} "
        f"| {rate:.1f} of fp32 |"
    )
    # A GPU's stages are the host's: there a whole epoch of 21 s counts.
    row = line_of(render(found, LADDER, replace(PEAK, device="cuda")), "| 2 smaller_net |", 2)
    assert f"| {60_000 * (forward + backward) / 21 / 1e9:.1f} |" in row


def test_a_peak_is_that_of_the_recordings_it_stands_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Peak] = []

    def measure(device: torch.device) -> Peak:
        measured.append(replace(PEAK, rates={"fp32": 1e11 + len(measured)}))
        return measured[-1]

    monkeypatch.setattr(rates, "measure_peak", measure)
    device, runs = torch.device("cpu"), [tmp_path / "simple-1", tmp_path / "gelu-1"]
    first = peak_beside(runs, device, tmp_path)
    assert peak_beside(reversed(runs), device, tmp_path) == first
    again = peak_beside([tmp_path / "simple-2", tmp_path / "gelu-1"], device, tmp_path)
    assert [first, again] == measured


def test_the_claim_is_judged_by_each_definition(found: list[RungFindings]) -> None:
    lines = reductions(found)
    # Data wait 0.94 s for 4.69; by the whole training 48 s for 66.
    assert line_of(lines, "| data_loading |") == (
        "| data_loading | -80 % | -80 % | -29 % | -27 % | -27 % |"
    )
    assert "- data wait, s an epoch: data_loading" in lines
    assert "- s an epoch: none of them" in lines


def test_the_convolution_of_the_argument_is_counted() -> None:
    text = "\n".join(convolution([]))
    assert "= 17.28 million multiply-adds, or 34.56 million operations" in text
    assert "counted as it ran: 34.56 million" in text


def test_stages_that_were_not_observed_are_absent_not_zero(found: list[RungFindings]) -> None:
    row = line_of(render(found, LADDER, PEAK), "| 2 smaller_net |", 1)
    assert row == (
        "| 2 smaller_net | 20 | 25.0 | – | 35.0 | 35.0 | 5.0 "
        "| input-bound: 25 % of the step is data wait |"
    )


def test_predicted_stands_beside_measured(found: list[RungFindings]) -> None:
    row = line_of(render(found, LADDER, PEAK), "| data_loading |")
    # 20 and 21 s become 16 and 17 s without riders.
    assert row == (
        "| data_loading | 1.30 (1.20 to 1.50) | 1.24 (1.15 to 1.34) | 2 | 21 | 16.5 "
        "| the change alone | the data in memory |"
    )
    said = Forecast(None, None, None, 1.8, "bf16 autocast: unknown: try")
    riding = replace(found[1], isolated=[], forecast=said)
    row = line_of(render([found[0], riding], LADDER, PEAK), "| data_loading |")
    assert row == (
        "| data_loading | unknown, at most 1.80 | 1.33 | 1 | 21 | 15 | with riders "
        "| bf16 autocast: unknown: try |"
    )


def test_an_epoch_that_ended_early_is_stretched(found: list[RungFindings]) -> None:
    whole = found[1].results[0]
    first = replace(whole.training.epochs[0], train_s=5.0, steps=469)
    early = replace(whole, training=replace(whole.training, epochs=(first,)))
    assert epoch_s_of(whole) == 15.0
    assert epoch_s_of(early) == 10.0


def test_noise_is_said(found: list[RungFindings]) -> None:
    spread = results("smaller_net", 20.0, [0.99] * 5)  # 63 to 75 s
    assert "apart, by the seed's" not in "\n".join(render(found, LADDER, PEAK))
    noisy = [
        replace(one, training=replace(one.training, seconds=50.0 + 5 * row))
        for row, one in enumerate(spread)
    ]
    text = "\n".join(render([replace(found[0], results=noisy)], LADDER, PEAK))
    assert "Quartiles more than 10 % of the median apart" in text


def test_what_no_seed_shows_is_said(found: list[RungFindings]) -> None:
    words = "No faster and no slower than what it changes, as far as these seeds can tell"
    assert words not in "\n".join(render(found, LADDER, PEAK))  # one seed has no interval
    faster = replace(found[1], results=results("data_loading", 15.0, [0.99] * 3))
    assert words not in "\n".join(render([found[0], faster], LADDER, PEAK))
    same = replace(found[1], results=results("data_loading", 20.0, [0.99] * 3))
    text = "\n".join(render([found[0], same], LADDER, PEAK))
    assert f"{words} (the interval holds 1): data_loading." in text


def test_what_is_said_elsewhere_stands_beside_what_holds_here(found: list[RungFindings]) -> None:
    lines = render(found, LADDER, PEAK)
    assert line_of(lines, "| smaller_net: stops") == (
        "| smaller_net: stops after 2 to 3 epochs | 3, 3 seeds | yes |"
    )
    assert "25.0 % of the step is data wait" in line_of(lines, "| smaller_net: data loading")
    assert line_of(lines, "| smaller_net: data loading").endswith("| **no** |")
    # What was not measured is not judged.
    assert not any(line.startswith("| tuned:") for line in lines)


@pytest.mark.parametrize(
    ("accuracies", "holds"),
    [([0.991], None), ([0.991, 0.990, 0.992], True), ([0.981, 0.980, 0.982], False)],
)
def test_a_published_accuracy_holds_within_the_interval_of_the_mean(
    accuracies: list[float], holds: bool | None, found: list[RungFindings]
) -> None:
    one = replace(found[0], results=results("smaller_net", 20.0, accuracies))
    assert checks.accuracy_claim("smaller_net", 99.1).judge(one).holds is holds


@pytest.mark.parametrize(
    ("count", "epoch_s", "holds"), [(10, 1.0, True), (10, 9.0, False), (9, 1.0, None)]
)
def test_an_aim_is_about_ten_seeds(
    count: int, epoch_s: float, holds: bool | None, found: list[RungFindings]
) -> None:
    one = replace(found[0], results=results("smaller_net", epoch_s, [0.991] * count))
    judge = checks.aim_claim("smaller_net", 0.99, 25.0).judge
    assert judge(one).holds is holds  # three epochs of 1 to 10 s, and a second of testing each
    if count == 10:
        missed = replace(one, results=results("smaller_net", epoch_s, [0.989] * count))
        assert judge(missed).holds is False


def test_times_must_hold_in_every_seed(found: list[RungFindings]) -> None:
    within = checks.within_claim("", "smaller_net", 23.0, 0.99).judge
    assert within(found[0]).holds is True  # 21 to 23 s to the first test
    assert checks.within_claim("", "smaller_net", 22.0, 0.99).judge(found[0]).holds is False
    assert within(replace(found[0], results=results("smaller_net", 5, [0.98]))).holds is False
    assert checks.whole_claim("", "smaller_net", 69.0).judge(found[0]).holds is True
    assert checks.whole_claim("", "smaller_net", 68.0).judge(found[0]).holds is False
    faster = checks.faster_claim("", "smaller_net", "data_loading", 1.3).judge
    assert faster(*found) == checks.Judged("1.38×", True)


def test_an_iteration_is_dearer_by_the_same_trainings_that_tell_an_epoch(
    found: list[RungFindings],
) -> None:
    small = replace(found[0], results=results("simple", 20.0, [0.98]))
    large = replace(found[0], results=results("simple_128", 10.0, [0.98]))
    fewer = [
        replace(one, training=replace(one.training, steps=469, epochs=epochs))
        for one in large.results
        for epochs in [tuple(replace(each, steps=469) for each in one.training.epochs)]
    ]
    judged = checks.dearer_claim().judge(small, replace(large, results=fewer))
    assert judged.holds
    assert judged.here == (
        "an iteration is 1.00 times as dear, and there are 2.00 times fewer of them: an epoch is "
        "2.00 times as fast; one seed"
    )


def test_every_claim_is_about_rungs_that_there_are() -> None:
    assert checks.CLAIMS.keys() == {ladder.name for ladder in LADDERS}
    for ladder in LADDERS:
        names = {rung.name for rung in ladder}
        for claim in checks.CLAIMS[ladder.name]:
            assert names.issuperset(claim.rungs), claim.words


def test_changes_without_riders_are_told_where_they_were_measured(
    found: list[RungFindings],
) -> None:
    lines = render(found, LADDER, PEAK)
    row = line_of(lines, "| 3 data_loading |", 4)
    assert row.startswith("| 3 data_loading | 66 (64.5 to 67.5) | 52.5 (51.8 to 53.2) | 48 | 21 |")
    said = line_of(lines, "- **3 data_loading**")
    assert "Change on smaller_net: `data.source` one tensor on the device." in said
    assert "Riders: `data.reshuffle` False" in said
    assert not any("without their riders" in line for line in render(found[:1], LADDER, PEAK))


def test_what_data_loading_lacks_to_dominate() -> None:
    found = {
        "smaller_net": Dominance(0.25, 3.5, 0.88),
        "initial": Dominance(0.02, None, None),
        "simple": Dominance(0.6, 1.0, 0.9),
    }
    lines = render_dominance(found, "no_workers", 0.911)
    assert lines[-4:-1] == [
        "| smaller_net | 25.0 | 3.5× | 88 | 91 |",
        "| initial | 2.0 | no speed does | unknown | 91 |",
        "| simple | 60.0 | it is | 90 | 91 |",
    ]
    assert render_dominance({}, "no_workers", 0.9) == []


def test_half_of_the_step_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data wait 30, the rest 10, computing 60: at 20 of it, data wait is half of 60."""
    shares = {"dataloader": 0.3, "forward": 0.2, "backward": 0.4, "optimizer": 0.1}
    # Four times the images in the time of one such step, a tenth of it computing.
    fast_shares = {"dataloader": 0.8, "forward": 0.04, "backward": 0.06, "optimizer": 0.1}
    steps = {
        "slow": replace(STEP, mean_ms=10.0, stage_shares=shares),
        "fast": replace(STEP, mean_ms=10.0, stage_shares=fast_shares),
    }
    asked = []

    def answer(run: Path, questions: list[Question]) -> SimpleNamespace:
        asked.extend(questions)
        taken = [1 / (1 - one.amount * shares[one.name]) for one in questions]
        answers = [SimpleNamespace(speedup=Estimate(one, None, None, 9)) for one in taken]
        return SimpleNamespace(answers=answers)

    monkeypatch.setattr(dominance, "step_of", lambda run: steps[run.name])
    monkeypatch.setattr(dominance.profkit, "what_if", answer)
    slow, fast = Recorded(Path("slow"), 64), Recorded(Path("fast"), 256)
    found = dominance.dominance_of(slow, fast)
    assert found.times == pytest.approx(3.0)
    # Of what an image took, forward takes a twentieth, backward 0.0375, the optimizer a quarter.
    assert [one.amount for one in asked] == pytest.approx([0.95, 0.9625, 0.75])
    assert found.fast_share == pytest.approx(0.3 / (0.3 + 0.2 * 0.05 + 0.4 * 0.0375 + 0.1 * 0.25))
    # The fast one is no faster: there is nothing to predict.
    assert dominance.dominance_of(slow, slow) == Dominance(0.3, found.times, None)
    shares["optimizer"], shares["backward"] = 0.35, 0.15
    assert dominance.dominance_of(slow, fast).times is None
    shares["dataloader"] = 0.6
    assert dominance.dominance_of(slow, fast).times == 1.0


def test_figures_are_the_same_for_the_same_findings(found: list[RungFindings]) -> None:
    for draw in (draw_rungs, partial(draw_accuracy, aim=0.99), draw_forecasts):
        text = draw(found, note="hardware; seeds; data; commit")
        assert text is not None
        assert text == draw(found, note="hardware; seeds; data; commit")
        assert "hardware; seeds; data; commit" in text
    assert draw_forecasts(found[:1], "") is None


@pytest.mark.parametrize(
    ("rungs", "words"),
    [
        ("9", "there is no rung 9; there are 0 to 8"),
        ("a", "write 0-8, 3 or 0,2,5-7"),
        ("3-1", "there is no rung in it"),
    ],
)
def test_rungs_that_are_not_there_are_refused(rungs: str, words: str) -> None:
    said = CliRunner().invoke(main, ["ladder", "--rungs", rungs])
    assert said.exit_code == 2
    assert words in said.output
