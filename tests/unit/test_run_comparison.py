"""Made-up runs of known ratio beside each other."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import make_run, make_steps
from profkit.analyze.breakdown import break_down
from profkit.analyze.comparability import find_differences
from profkit.analyze.run_comparison import compare_runs, inverse
from profkit.analyze.statistics import BETWEEN_PROCESS_LOG_SD
from profkit.analyze.time_ratios import mean_ratio, typical_ratio
from profkit.diagnose.situation import Situation
from profkit.diagnose.verdict import judge
from profkit.render.comparison_words import comparison_lines
from profkit.schema.comparison import Change, PairFindings, RunsComparison
from profkit.schema.drilldown import Cost, Drilldown
from profkit.schema.estimate import Estimate
from profkit.schema.findings import EndingKind, RunEnding, RunFindings
from profkit.schema.record import RunRecord
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import StepTable

MODEL = {Stage.FORWARD: 400_000, Stage.BACKWARD: 500_000, Stage.OPTIMIZER: 100_000}
TRIALS = 300


def findings(record: RunRecord, drilldown: tuple[Drilldown, ...] = ()) -> RunFindings:
    breakdown = break_down(record.steps)
    return RunFindings(
        manifest=record.manifest,
        ending=RunEnding(EndingKind.RECORDED, "completed", None),
        breakdown=breakdown,
        core_wait=None,
        contention=None,
        verdicts=judge(Situation(record.manifest, breakdown, None, None)),
        drilldown=drilldown,
        marks=record.marks,
        gaps=(),
    )


def compare(records: Sequence[RunRecord], *drilldowns: tuple[Drilldown, ...]) -> RunsComparison:
    seen = drilldowns or [()] * len(records)
    found = [findings(one, drilldown) for one, drilldown in zip(records, seen, strict=True)]
    return compare_runs(records, found, find_differences(records))


def pair(base: RunRecord, new: RunRecord, *drilldowns: tuple[Drilldown, ...]) -> PairFindings:
    found = compare((base, new), *drilldowns).pair
    assert found is not None
    return found


def steps(stages: dict[Stage, Any], count: int = 200, seed: int = 0, **more: Any) -> StepTable:
    return make_steps(stages, count, noise=0.02, seed=seed, **more)


def moody(draw: np.random.Generator, mean_ns: float) -> StepTable:
    """One process instance: a bias of its own, and steps that resemble their neighbours."""
    bias = draw.normal(0, BETWEEN_PROCESS_LOG_SD / math.sqrt(2))
    shocks = draw.normal(0, 0.1, 400)
    mood = np.empty(400)
    mood[0] = shocks[0]
    for row in range(1, 400):
        mood[row] = 0.7 * mood[row - 1] + shocks[row]
    # The mean of what is drawn is 1: a log-normal's own mean is taken out.
    taken = np.exp(mood - mood.var() / 2) * mean_ns * math.exp(bias)
    return make_steps({Stage.FORWARD: taken}, 400)


@pytest.fixture(scope="module")
def simulated() -> list[tuple[StepTable, StepTable]]:
    """Pairs of runs of which the second takes 1.1 times as long."""
    draw = np.random.default_rng(11)
    return [(moody(draw, 1e6), moody(draw, 1.1e6)) for _ in range(TRIALS)]


@pytest.mark.parametrize("ratio_of", [mean_ratio, typical_ratio])
def test_intervals_cover_the_truth_as_often_as_they_say(
    simulated: list[tuple[StepTable, StepTable]], ratio_of: Any
) -> None:
    covered, shown = 0, 0
    for base, new in simulated:
        ratio = ratio_of(base, new, in_turns=False).ratio
        covered += ratio.low <= 1.1 <= ratio.high
        shown += ratio.low > 1
    assert 0.92 <= covered / TRIALS <= 0.98
    assert shown / TRIALS > 0.75


def test_identical_code_shows_no_difference_nearly_always(
    simulated: list[tuple[StepTable, StepTable]],
) -> None:
    bases = [base for base, _ in simulated]
    told = [
        mean_ratio(one, other, in_turns=False).time_change.change
        for one, other in zip(bases, bases[1:] + bases[:1], strict=True)
    ]
    assert 0.92 <= told.count(Change.NOT_SHOWN) / TRIALS <= 0.98


def test_what_makes_the_step_slower_is_named_and_the_parts_make_the_whole() -> None:
    base = make_run(steps({Stage.DATALOADER: 200_000, **MODEL}))
    slow = {**MODEL, Stage.BACKWARD: 550_000, Stage.OPTIMIZER: 70_000}
    new = make_run(steps({Stage.DATALOADER: 3_200_000, **slow}, seed=1))
    found = pair(base, new)
    assert found.mean.change is found.typical.change is Change.SLOWER
    assert found.mean.ratio is not None
    assert found.mean.ratio.value == pytest.approx(4.22 / 1.2, rel=0.01)
    assert found.explained_by == (Stage.DATALOADER,)
    seen = {stage: times for stage, times in found.stages.items() if times is not None}
    assert sum(times.change_ns for times in seen.values()) == pytest.approx(found.mean.change_ns)
    assert sum(times.part or 0 for times in seen.values()) == pytest.approx(1)
    told = {stage: times.change for stage, times in seen.items()}
    assert told[Stage.DATALOADER] is told[Stage.BACKWARD] is Change.SLOWER
    assert told[Stage.FORWARD] is Change.NOT_SHOWN
    assert told[Stage.OPTIMIZER] is Change.FASTER
    assert found.stages[Stage.TRANSFER] is None
    kinds = [run.verdicts[0].kind for run in compare((base, new)).runs]
    assert kinds == ["compute-bound", "input-bound"]


def test_the_other_way_round_everything_is_mirrored() -> None:
    base = make_run(steps({Stage.DATALOADER: 200_000, **MODEL}))
    new = make_run(steps({Stage.DATALOADER: 300_000, **MODEL}, seed=1))
    there, back = pair(base, new), pair(new, base)
    assert (there.mean.change, back.mean.change) == (Change.SLOWER, Change.FASTER)
    assert there.mean.ratio is not None
    assert back.mean.ratio is not None
    mirrored = inverse(there.mean.ratio)
    assert mirrored.value == pytest.approx(back.mean.ratio.value)
    assert (mirrored.low, mirrored.high) == pytest.approx(
        (back.mean.ratio.low, back.mean.ratio.high)
    )
    assert there.explained_by == back.explained_by == (Stage.DATALOADER,)
    assert there.mean.change_ns == pytest.approx(-back.mean.change_ns)


def test_rare_slow_steps_show_in_the_mean_alone() -> None:
    forward = np.full(400, 1_000_000)
    forward[::10] = 6_000_000  # two in each block of twenty
    base = make_run(steps({Stage.FORWARD: 1_000_000}, 400))
    found = pair(base, make_run(steps({Stage.FORWARD: forward}, 400, seed=1)))
    assert found.mean.change is Change.SLOWER
    assert found.mean.ratio is not None
    assert found.mean.ratio.value == pytest.approx(1.5, rel=0.02)
    assert found.typical.change is Change.NOT_SHOWN


@pytest.mark.parametrize(
    ("usual_ns", "words"),
    [(1_000_000, "does not show that change"), (700_000, "shows the opposite")],
)
def test_what_a_typical_step_shows_beside_the_mean_is_said(usual_ns: int, words: str) -> None:
    forward = np.full(400, usual_ns)
    forward[::10] = 10_000_000
    base = make_run(steps({Stage.FORWARD: 1_000_000}, 400))
    found = compare((base, make_run(steps({Stage.FORWARD: forward}, 400, seed=1))))
    told = [text for name, text in comparison_lines(found) if name == "result"]
    assert words in told[1]


def test_a_stage_that_only_one_run_saw_has_no_ratio_and_takes_all_of_its_time() -> None:
    base = make_run(steps(MODEL))
    new = make_run(steps({Stage.TRANSFER: 500_000, **MODEL}, seed=1))
    times = pair(base, new).stages[Stage.TRANSFER]
    assert times is not None
    assert (times.base_ns, times.ratio, times.change) == (None, None, None)
    assert times.change_ns == times.new_ns == pytest.approx(500_000, rel=0.01)
    assert pair(base, new).explained_by == (Stage.TRANSFER,)


def test_a_stage_that_was_measured_as_zero_is_not_absent() -> None:
    base = make_run(steps({**MODEL, Stage.OTHER: 0}))
    times = pair(base, make_run(steps({**MODEL, Stage.OTHER: 0}))).stages[Stage.OTHER]
    assert times is not None
    assert (times.base_ns, times.new_ns, times.ratio) == (0, 0, None)


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_blocks_carry_no_interval(count: int) -> None:
    found = pair(make_run(steps(MODEL)), make_run(steps(MODEL, count, seed=1)))
    assert found.mean.ratio is not None
    assert (found.mean.ratio.low, found.mean.ratio.high) == (None, None)
    assert found.mean.change is found.typical.change is Change.UNKNOWN
    assert found.explained_by == ()


def test_changes_that_cancel_are_told_although_the_step_shows_none() -> None:
    base = make_run(steps({Stage.DATALOADER: 500_000, Stage.FORWARD: 500_000}))
    new = make_run(steps({Stage.DATALOADER: 700_000, Stage.FORWARD: 300_000}, seed=1))
    found = pair(base, new)
    assert found.mean.change is Change.NOT_SHOWN
    assert set(found.explained_by) == {Stage.DATALOADER, Stage.FORWARD}
    assert all(times is None or times.part is None for times in found.stages.values())
    again = make_run(steps({Stage.DATALOADER: 500_000, Stage.FORWARD: 500_000}, seed=2))
    assert pair(base, again).explained_by == ()


def test_runs_that_took_turns_cancel_what_met_both() -> None:
    mood = np.repeat(np.exp(np.random.default_rng(0).normal(0, 0.4, 20)), 10)
    base = steps({Stage.FORWARD: 1_000_000 * mood}, block=10)
    new = steps({Stage.FORWARD: 1_100_000 * mood}, block=10, seed=1)
    in_turns = (make_run(base, group="g"), make_run(new, group="g"))
    apart = (make_run(base), make_run(new))
    assert compare(in_turns).in_turns
    assert not compare(apart).in_turns
    assert pair(*in_turns).mean.change is pair(*in_turns).typical.change is Change.SLOWER
    assert pair(*apart).mean.change is Change.NOT_SHOWN
    assert not compare((in_turns[0], make_run(new, group="h"))).in_turns


def test_batches_of_another_size_are_compared_by_the_sample() -> None:
    base = make_run(steps({Stage.FORWARD: 1_000_000}))
    wide = steps({Stage.FORWARD: 1_500_000}, seed=1)
    wide = replace(wide, samples=wide.samples * 2)
    new = make_run(wide, loader=LoaderFacts("dataloader", 128, 0, None))
    found = pair(base, new)
    assert found.mean.change is Change.SLOWER
    assert found.per_sample is not None
    assert found.leading is found.per_sample
    assert found.per_sample.change is Change.FASTER
    assert found.per_sample.ratio is not None
    assert found.per_sample.ratio.value == pytest.approx(0.75, rel=0.01)
    assert pair(base, base).per_sample is None
    ranking = compare((base, new, base)).ranking
    assert [ranked.run for ranked in ranking] == [1, 0, 2]
    assert ranking[0].time_ns == pytest.approx(1_500_000 / 128, rel=0.01)


def test_runs_are_ranked_by_speed_with_letters() -> None:
    forwards = {"slow": 2_000_000, "fast": 1_000_000, "alike": 1_010_000, "short": 1_500_000}
    records = [
        make_run(
            steps({Stage.FORWARD: forward}, 3 if name == "short" else 200, seed=seed), name=name
        )
        for seed, (name, forward) in enumerate(forwards.items())
    ]
    found = compare(records)
    assert found.pair is None
    shown = {found.runs[one.run].manifest.name: one for one in found.ranking}
    assert list(shown) == ["fast", "alike", "short", "slow"]
    assert [one.letters for one in shown.values()] == ["a", "a", None, "b"]
    assert shown["fast"].ratio is None
    ratio = shown["slow"].ratio
    assert ratio is not None
    assert ratio.low is not None
    assert ratio.value == pytest.approx(2, rel=0.01)
    assert 1.9 < ratio.low < ratio.value
    assert shown["short"].ratio is not None
    assert shown["short"].ratio.low is None


def test_among_many_runs_of_identical_code_a_letter_seldom_differs() -> None:
    """Six runs make 15 pairs: without a correction half of the sets would show a difference."""
    draw = np.random.default_rng(5)
    differing = 0
    for _ in range(40):
        records = [make_run(moody(draw, 1e6), name=str(number)) for number in range(6)]
        differing += len({one.letters for one in compare(records).ranking}) > 1
    assert differing <= 6


def test_steps_that_grow_are_named_unless_turns_cancel_it() -> None:
    growing = np.linspace(1_000_000, 1_500_000, 200)
    base = make_run(steps({Stage.FORWARD: 1_000_000}))
    grown = steps({Stage.FORWARD: growing}, seed=1)
    calm, grew = compare((base, make_run(grown))).drifts
    assert calm is None
    assert grew == pytest.approx(0.46, abs=0.05)
    turns = [make_run(steps({Stage.FORWARD: growing}, block=10), group="g") for _ in range(2)]
    assert compare(turns).drifts == (None, None)


def test_a_run_whose_cores_others_had_is_named_beside_the_result() -> None:
    records = [make_run(steps(MODEL, seed=seed), name=f"run {seed}") for seed in range(2)]
    found = compare(records)
    calm, busy = found.runs
    told = replace(found, runs=(calm, replace(busy, core_wait=Estimate(0.3, 0.2, 0.4, 16))))
    cautions = [text for about, text in comparison_lines(told) if about == "caution"]
    assert len(cautions) == 1
    assert "run 1 waited for a core 30 % of the time" in cautions[0]
    idle = replace(found, runs=(calm, replace(busy, core_wait=Estimate(0.01, 0.0, 0.02, 16))))
    assert not any(about == "caution" for about, _ in comparison_lines(idle))


def samples(*costs: tuple[str, str, int]) -> tuple[Drilldown, ...]:
    total = sum(count for _, _, count in costs)
    places = tuple(
        Cost(name, source, None, None, count, count / total) for name, source, count in costs
    )
    return (Drilldown("samples", Stage.OTHER, 50, places),)


def test_the_place_that_changed_most_is_named_by_name_although_its_line_moved() -> None:
    base = make_run(steps({**MODEL, Stage.OTHER: 200_000}))
    new = make_run(steps({**MODEL, Stage.OTHER: 1_000_000}, seed=1))
    before = samples(("save", "train.py:5", 30), ("log_metrics", "train.py:41", 10))
    after = samples(("save", "train.py:9", 12), ("log_metrics", "train.py:60", 48))
    place = pair(base, new, before, after).place
    assert place is not None
    assert (place.name, place.source, place.stage) == ("log_metrics", "train.py:60", Stage.OTHER)
    assert place.base_ns == pytest.approx(50_000, rel=0.01)
    assert place.new_ns == pytest.approx(800_000, rel=0.01)
    back = pair(new, base, after, before).place
    assert back is not None
    assert (back.name, back.source) == ("log_metrics", "train.py:60")


def test_a_place_that_is_new_has_no_time_before() -> None:
    base = make_run(steps({**MODEL, Stage.OTHER: 50_000}))
    new = make_run(steps({**MODEL, Stage.OTHER: 1_000_000}, seed=1))
    after = samples(("log_metrics", "train.py:60", 48), ("once", "train.py:1", 1))
    place = pair(base, new, (), after).place
    assert place is not None
    assert (place.name, place.base_ns) == ("log_metrics", None)
    assert pair(base, new).place is None


def test_workers_places_do_not_explain_what_the_loop_waits() -> None:
    loader = LoaderFacts("dataloader", 64, 2, 2)
    base = make_run(steps({Stage.DATALOADER: 100_000, **MODEL}))
    new = make_run(steps({Stage.DATALOADER: 900_000, **MODEL}, seed=1))
    lines = tuple(
        (Drilldown("lines", Stage.DATALOADER, 9, (Cost("x = 1", f"a.py:{n}", 5, 5, 5, 1.0),)),)
        for n in (1, 2)
    )
    assert pair(base, new, *lines).place is not None
    with_workers = replace(new, manifest=replace(new.manifest, loader=loader))
    assert pair(base, with_workers, *lines).place is None


def test_the_six_stages_are_always_there() -> None:
    run = make_run(steps(MODEL))
    assert tuple(pair(run, run).stages) == STAGES
