"""Predictions from made-up runs whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from profkit.analyze.course import Course
from profkit.analyze.loader_model import Batches, replay, settled
from profkit.analyze.what_if import FIXES, Machine, held_out_error, predict
from profkit.schema.loader import PartKind
from profkit.schema.loader_findings import PartCost
from profkit.schema.prediction import Change, Prediction, Question
from profkit.schema.stage import STAGES, Stage

MS = 1e6
ROOMY = Machine(cores=64, threads=1)


def course(making: object, forward: object = 3 * MS, workers: int = 0, count: int = 600) -> Course:
    """Batches of 600; the step after them is a forward and 1 ms of something else."""
    made = np.broadcast_to(np.asarray(making, np.float64), (count,)).copy()
    ran = np.broadcast_to(np.asarray(forward, np.float64), (count,)).copy()
    none = np.zeros(count)
    stages = np.zeros((count, len(STAGES)))
    stages[:, STAGES.index(Stage.FORWARD)] = ran
    stages[:, STAGES.index(Stage.OTHER)] = MS
    batches = Batches(made, none, none, none, ran + MS)
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
        parts,
        np.zeros(count, np.int64),
    )


def ask(of: Course, question: Question, machine: Machine = ROOMY) -> Prediction:
    (answer,) = predict("a run", of, machine, [question]).answers
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
    assert speedup(course(10 * MS), Change.PART, "dataloader") == pytest.approx(14 / 4)


def test_a_transform_takes_its_part_of_the_making() -> None:
    assert speedup(course(10 * MS), Change.PART, "Blur") == pytest.approx(14 / 8)
    assert speedup(course(10 * MS), Change.PART, "fetch", 0.5) == pytest.approx(14 / 12)


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
    assert answer.speedup.value == pytest.approx(14 / 4)
    assert answer.assumes is not None


def test_more_workers_are_replayed_where_there_are_cores() -> None:
    one = course(10 * MS, workers=1)
    assert speedup(one, Change.WORKERS, amount=2) == pytest.approx(10 / 5, rel=0.02)
    assert speedup(one, Change.WORKERS, amount=8) == pytest.approx(10 / 4, rel=0.02)


@pytest.mark.parametrize(
    ("workers", "question", "machine", "reason"),
    [
        (1, Question(Change.WORKERS, amount=2), Machine(2, 1), "want more than the 2 cores"),
        (0, Question(Change.WORKERS, amount=2), ROOMY, "not known from a run without any"),
        (2, Question(Change.MEMORY), Machine(2, 2), "has the cores to itself"),
        (0, Question(Change.PREFETCH, amount=4), ROOMY, "nothing is made ahead"),
        (0, Question(Change.BATCH, amount=2), ROOMY, "batches of one size"),
        (0, Question(Change.PART, "backward"), ROOMY, "not observed"),
        (0, Question(Change.PART, "Sharpen"), ROOMY, "no part of a batch's cost is called"),
        (0, Question(Change.TRY, "bf16 autocast"), ROOMY, "unknown: try"),
    ],
)
def test_what_the_recording_cannot_tell_is_not_guessed(
    workers: int, question: Question, machine: Machine, reason: str
) -> None:
    answer = ask(course(10 * MS, workers=workers), question, machine)
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
        making = draw.gamma(4, 2.5 * MS, 1_200)
        whole = course(making, draw.gamma(9, MS / 3, 1_200), workers=2, count=1_200)
        half = replace(
            whole,
            batches=whole.batches.pick(np.arange(600)),
            steps_ns=whole.steps_ns[:600],
            stages_ns=whole.stages_ns[:600],
            block=whole.block[:600],
        )
        found = ask(half, Question(Change.WORKERS, amount=3)).step_ns
        rest = whole.batches.pick(np.arange(600, 1_200))
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
