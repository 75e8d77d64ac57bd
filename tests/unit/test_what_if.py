"""Predictions from made-up runs whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from profkit.analyze.changes import FIXES
from profkit.analyze.course import Course
from profkit.analyze.loader_model import Batches, replay, settled
from profkit.analyze.what_if import held_out_error, predict
from profkit.schema.loader import PartKind
from profkit.schema.loader_findings import PartCost
from profkit.schema.prediction import Change, Prediction, Question
from profkit.schema.stage import STAGES, Stage

MS = 1e6
ROOMY = 64


def course(making: object, forward: object = 3 * MS, workers: int = 0, count: int = 600) -> Course:
    """Batches of 600; the step after them is a forward and 1 ms of something else."""
    made = np.broadcast_to(np.asarray(making, np.float64), (count,)).copy()
    ran = np.broadcast_to(np.asarray(forward, np.float64), (count,)).copy()
    none = np.zeros(count)
    stages = np.zeros((count, len(STAGES)))
    stages[:, STAGES.index(Stage.FORWARD)] = ran
    stages[:, STAGES.index(Stage.OTHER)] = MS
    batches = Batches(none, none, made, none, none, none, none, ran + MS)
    steps = replay(batches, workers, 2)
    parts = (
        PartCost(PartKind.TRANSFORM, "Blur", 6 * MS, 0.6, 4),
        PartCost(PartKind.FETCH, None, 4 * MS, 0.4),
    )
    return Course(
        batches,
        steps,
        stages,
        workers,
        2 if workers else 0,
        False,
        1,
        1.0,
        parts,
    )


def ask(of: Course, question: Question, cores: int = ROOMY) -> Prediction:
    (answer,) = predict("a run", of, cores, [question]).answers
    return answer


def speedup(of: Course, change: Change, name: str = "", amount: float = 1.0) -> float:
    found = ask(of, Question(change, name, amount)).speedup
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    return found.value


def test_a_stage_that_goes_takes_its_time_along() -> None:
    # 10 ms of making, 3 of forward, 1 of something else.
    assert speedup(course(10 * MS), Change.PART, "forward") == pytest.approx(14 / 11)
    assert speedup(course(10 * MS), Change.PART, "forward", 0.5) == pytest.approx(14 / 12.5)
    # As it is after a wait, or up to 1 ms sooner, since nothing has cooled its caches.
    assert 14 / 4 < speedup(course(10 * MS), Change.PART, "dataloader") < 14 / 3


def test_a_transform_takes_its_part_of_the_making() -> None:
    # Its own 6 ms, or a fifth more with what it leaves behind, and 0.6 ms of warmer caches.
    assert 14 / 8 < speedup(course(10 * MS), Change.PART, "Blur") < 14 / (8 - 1.2 - 0.6)
    half = speedup(course(10 * MS), Change.PART, "fetch", 0.5)
    assert 14 / 12 < half < 14 / (12 - 0.4 - 0.2)


def test_behind_workers_only_what_is_waited_for_counts() -> None:
    hidden = course(10 * MS, workers=4)  # a batch every 2.5 ms for a step of 4
    assert speedup_or_one(hidden, "Blur") == pytest.approx(1, abs=0.01)
    late = course(10 * MS, workers=1)
    assert speedup_or_one(late, "forward") == pytest.approx(1, abs=0.01)
    assert speedup_or_one(late, "Blur") == pytest.approx(10 / 4, rel=0.02)


def speedup_or_one(of: Course, name: str) -> float:
    found = ask(of, Question(Change.PART, name)).speedup
    assert found is not None
    return found.value


def test_in_memory_only_the_making_goes() -> None:
    answer = ask(course(10 * MS), Question(Change.MEMORY))
    assert answer.speedup is not None
    assert answer.speedup.low is not None
    assert answer.speedup.high is not None
    # As it is now, or up to 1 ms less with warm caches.
    assert answer.speedup.value == pytest.approx(14 / np.sqrt(4 * 3), rel=1e-3)
    assert answer.speedup.low < 14 / 4
    assert answer.speedup.high > 14 / 3
    assert answer.assumes is not None


def test_a_probe_with_the_very_setting_is_taken_as_it_is() -> None:
    base = course(10 * MS)
    probes = [course(12 * MS, workers=2), replace(course(11 * MS), threads=4)]
    asked = [Question(Change.WORKERS, amount=2), Question(Change.THREADS, amount=4)]
    two, threads = (one.speedup for one in predict("a run", base, 2, asked, probes).answers)
    assert two is not None
    assert threads is not None
    assert two.value == pytest.approx(14 / 6, rel=0.02)
    assert threads.value == pytest.approx(14 / 15)


def test_a_probe_is_not_replayed() -> None:
    # What it measured is not what its batches would take by the replay.
    odd = course(12 * MS, workers=2)
    odd = replace(odd, steps_ns=np.full_like(odd.steps_ns, 7 * MS))
    asked = [Question(Change.WORKERS, amount=2)]
    (answer,) = predict("a run", course(10 * MS), 2, asked, [odd]).answers
    assert answer.speedup is not None
    assert answer.speedup.value == pytest.approx(14 / 7)


def test_what_a_part_leaves_behind_may_go_with_it() -> None:
    # Nothing waits 1.5 ms here, so no cache is cold: 0.6 of 1 ms goes, or as much as 0.72.
    found = ask(course(MS), Question(Change.PART, "Blur")).step_ns
    alone = ask(course(MS), Question(Change.PART, "dataloader", 0.6)).step_ns
    assert found is not None
    assert alone is not None
    assert found.value == alone.value == pytest.approx(4.4 * MS, rel=1e-4)
    assert found.high == alone.high
    assert found.low == pytest.approx(4.28 / 4.4 * (alone.low or 0.0))


def test_between_two_probes_costs_lie_between_theirs() -> None:
    base = course(10 * MS)
    probes = [course(12 * MS, workers=1), course(24 * MS, workers=5)]
    asked = [Question(Change.WORKERS, amount=count) for count in (2, 3)]
    two, three = (one.speedup for one in predict("a run", base, 64, asked, probes).answers)
    assert two is not None
    assert three is not None
    assert two.value == pytest.approx(14 / 7.5, rel=0.02)
    assert three.value == pytest.approx(14 / 6, rel=0.02)


def test_past_the_cores_more_workers_win_nothing() -> None:
    base = course(10 * MS)
    probes = [course(12 * MS, workers=1), course(20 * MS, workers=2)]
    asked = [Question(Change.WORKERS, amount=count) for count in (2, 4, 8)]
    found = [one.speedup for one in predict("a run", base, 2, asked, probes).answers]
    two, four, eight = (one.value for one in found if one is not None)
    assert four == pytest.approx(two, rel=0.05)
    assert eight == pytest.approx(two, rel=0.05)


def test_no_more_workers_are_recommended_than_win_something() -> None:
    base = course(10 * MS)
    probes = [course(12 * MS, workers=1), course(20 * MS, workers=2)]
    asked = [Question(Change.WORKERS, amount=count) for count in (1, 2, 4, 8)]
    # One worker takes 12 ms for a step of 14, two 10, and more of them share two cores.
    assert predict("a run", base, 2, asked, probes).workers == 2
    assert predict("a run", base, 2, [Question(Change.MEMORY)], probes).workers is None
    dear = [course(30 * MS, workers=1), course(60 * MS, workers=2)]
    assert predict("a run", base, 2, asked, dear).workers == 0
    # 4 ms a step now, 3.8 with another worker: not surely faster, where cores are taken.
    little = [course(1.0, forward=2.8 * MS, workers=2)]
    two = [Question(Change.WORKERS, amount=2)]
    busy = course(1.0, workers=1)
    assert predict("a run", busy, 2, two, little).workers == 1
    assert predict("a run", busy, 64, two, little).workers == 2, "there is room for it"
    io = course(10 * MS, workers=1)
    assert predict("a run", io, 64, asked).workers == 4, "3 were not asked about"


def test_larger_batches_are_told_of_where_making_them_is_most_of_it() -> None:
    # 40 ms of making, 4 of using: twice that is 84 to 88 ms for two batches.
    answer = ask(course(40 * MS), Question(Change.BATCH, amount=2))
    assert answer.speedup is not None
    assert answer.step_ns is not None
    assert answer.speedup.value == pytest.approx(88 / np.sqrt(84 * 88), rel=1e-3)
    assert answer.step_ns.value == pytest.approx(MS * np.sqrt(84 * 88), rel=1e-3)


def test_more_workers_are_replayed_where_there_are_cores() -> None:
    one = course(10 * MS, workers=1)
    assert 10 / 5.01 < speedup(one, Change.WORKERS, amount=2) < 10 / 4.8
    assert 10 / 4.01 < speedup(one, Change.WORKERS, amount=8) < 10 / 3


@pytest.mark.parametrize(
    ("workers", "question", "cores", "reason"),
    [
        (1, Question(Change.WORKERS, amount=2), 2, "how much they slow each other down"),
        (0, Question(Change.WORKERS, amount=2), ROOMY, "not known from a run without any"),
        (2, Question(Change.MEMORY), 2, "has the cores to itself"),
        (0, Question(Change.PREFETCH, amount=4), ROOMY, "nothing is made ahead"),
        (0, Question(Change.BATCH, amount=4), ROOMY, "batches of one size"),
        (0, Question(Change.THREADS, amount=4), ROOMY, "unknown: try"),
        (0, Question(Change.PART, "backward"), ROOMY, "not observed"),
        (0, Question(Change.PART, "Sharpen"), ROOMY, "no part of a batch's cost is called"),
        (0, Question(Change.TRY, "bf16 autocast"), ROOMY, "unknown: try"),
    ],
)
def test_what_the_recording_cannot_tell_is_not_guessed(
    workers: int, question: Question, cores: int, reason: str
) -> None:
    answer = ask(course(4 * MS, workers=workers), question, cores)
    assert answer.step_ns is None
    assert answer.speedup is None
    assert reason in (answer.reason or "")


def test_a_fix_to_try_is_bounded_by_its_stages() -> None:
    answer = ask(course(10 * MS), Question(Change.TRY, "bf16 autocast"))
    assert answer.bound == pytest.approx(14 / 11)
    assert set(FIXES) >= {"bf16 autocast", "torch.compile", "channels_last"}


def test_intervals_hold_the_truth_where_batches_vary() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        making = draw.gamma(4, 2.5 * MS, 600)
        whole = course(making, draw.gamma(9, MS / 3, 600), workers=2, count=600)
        half = replace(
            whole,
            batches=whole.batches.pick(np.arange(300)),
            steps_ns=whole.steps_ns[:300],
            stages_ns=whole.stages_ns[:300],
        )
        found = ask(half, Question(Change.WORKERS, amount=3)).step_ns
        rest = whole.batches.pick(np.arange(300, 600))
        truth = replay(rest, 3, 2)[settled(3, 2) :].mean()
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert held >= 36


def test_one_half_of_a_run_gives_the_other_halfs_step() -> None:
    draw = np.random.default_rng(1)
    for workers in (0, 1, 2, 4):
        varied = course(draw.gamma(9, MS, 800), draw.gamma(9, MS / 3, 800), workers, count=800)
        error = held_out_error(varied)
        assert error is not None
        assert abs(error) < 0.03
    assert held_out_error(course(10 * MS, count=30)) is None


def test_a_run_whose_halves_differ_too_much_is_no_ground() -> None:
    odd = course(np.where(np.arange(120) // 20 % 2 == 0, 2 * MS, 20 * MS), count=120)
    assert abs(held_out_error(odd) or 0) > 0.3
    found = ask(odd, Question(Change.PART, "forward"))
    assert found.speedup is None
    assert "% off the other: record more steps" in (found.reason or "")


def test_more_workers_than_probed_make_no_batch_cheaper() -> None:
    # Eight threads on eight cores: any worker is one too many, but none makes a batch cheaper.
    base = replace(course(40 * MS), threads=8)
    probe = replace(course(40 * MS, workers=1), threads=8)
    asked = [Question(Change.WORKERS, amount=count) for count in (1, 2)]
    one, two = (a.step_ns for a in predict("a run", base, 8, asked, [probe]).answers)
    assert one is not None
    assert two is not None
    assert two.value >= 0.49 * one.value
