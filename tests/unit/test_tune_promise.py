"""In which order fixes are tried, and which are not."""

import pytest

from profkit.schema.fix import Fix, Knob
from profkit.schema.prediction import Change, Prediction, Question
from profkit.verify.promise import answer_for, bound, fits, plans, promise, why_not
from tunings import (
    BF16,
    FUSED,
    MEMORY,
    NO_WORKERS,
    ONE_THREAD,
    ONE_WORKER,
    PREFETCH,
    TWO_WORKERS,
    ground,
    prediction,
)

STEP = {"dataloader": 60.0, "forward": 15.0, "backward": 15.0, "optimizer": 10.0}


def test_a_fix_wins_at_most_the_stages_that_it_can_shorten() -> None:
    assert bound(ground(**STEP), FUSED) == pytest.approx(1 / 0.9)
    assert bound(ground(**STEP), BF16) == pytest.approx(1 / 0.7)
    # Without workers, data that cost nothing leave the rest; with them, nobody knows.
    assert bound(ground(**STEP), MEMORY) == pytest.approx(1 / 0.4)
    assert bound(ground(workers=2, **STEP), MEMORY) > 50


def test_a_prediction_goes_before_what_is_usual() -> None:
    here = ground(**STEP)
    assert promise(here, MEMORY, prediction(1.3)) == 1.3
    assert 1.0 < promise(here, MEMORY) < bound(here, MEMORY)
    assert promise(here, BF16) < bound(here, BF16)


def test_what_no_recording_holds_has_a_bound_and_no_number() -> None:
    answer = answer_for(ground(**STEP), FUSED, None)
    assert answer.speedup is None
    assert answer.bound == pytest.approx(1 / 0.9)
    assert "unknown: try" in (answer.reason or "")
    assert answer_for(ground(**STEP), ONE_THREAD, None).bound is None


def test_what_can_win_nothing_is_not_tried() -> None:
    here = ground(dataloader=60.0, forward=30.0, optimizer=1.0)
    assert why_not(here, FUSED, None) is not None
    assert why_not(here, BF16, None) is None
    assert why_not(here, MEMORY, prediction(0.9)) == "it is predicted to win less than 2 %"
    # Its interval reaches into what would be worth it.
    assert why_not(here, MEMORY, prediction(0.99, reach=0.1)) is None
    small = Prediction(Question(Change.WORKERS), None, None, 1.01, "nobody knows")
    assert why_not(here, TWO_WORKERS, small) == "it cannot win more than 2 % here"


@pytest.mark.parametrize(
    ("fixes", "fix", "expected"),
    [
        ((MEMORY,), BF16, True),
        ((MEMORY,), TWO_WORKERS, False),
        ((TWO_WORKERS,), MEMORY, False),
        ((MEMORY,), PREFETCH, False),
        ((MEMORY,), Fix("batched fetch", Knob.FETCH), False),
        ((TWO_WORKERS,), PREFETCH, True),
        ((NO_WORKERS,), PREFETCH, False),
        ((ONE_WORKER,), TWO_WORKERS, False),
        ((TWO_WORKERS,), ONE_THREAD, True),
    ],
)
def test_only_what_does_something_beside_others_is_combined(
    fixes: tuple[Fix, ...], fix: Fix, expected: bool
) -> None:
    assert fits(fixes, fix) is expected


def answers(here: object, *fixes: Fix, **predicted: float) -> dict[str, Prediction]:
    found = {}
    for fix in fixes:
        known = predicted.get(fix.name.replace(" ", "_").removeprefix("2_"))
        answer = None if known is None else prediction(known)
        found[fix.name] = answer_for(here, fix, answer)  # type: ignore[arg-type]
    return found


def test_the_best_promise_comes_first_and_workers_leave_threads_their_cores() -> None:
    here = ground(**STEP)
    fixes = (FUSED, BF16, TWO_WORKERS, ONE_THREAD, MEMORY)
    known = answers(here, *fixes, workers=1.4, data_in_memory=2.2)
    order = ["+".join(fix.name for fix in plan) for plan, _ in plans(here, fixes, known)]
    assert order[:3] == ["data in memory", "2 workers+1 intra-op thread", "2 workers"]
    assert set(order[3:]) == {"bf16 autocast", "fused optimizer", "1 intra-op thread"}


def test_where_there_are_cores_enough_workers_are_tried_alone() -> None:
    fixes = (TWO_WORKERS, ONE_THREAD)
    roomy = ground(threads=2, cores=8, **STEP)
    found = plans(roomy, fixes, answers(roomy, *fixes, workers=1.4))
    assert [len(plan) for plan, _ in found] == [1, 1]
    tight = ground(threads=2, cores=2, **STEP)
    found = plans(tight, fixes, answers(tight, *fixes, workers=0.8))  # nor where they harm
    assert [len(plan) for plan, _ in found] == [1, 1]


def test_threads_promise_more_where_workers_are_crowded() -> None:
    alone = promise(ground(workers=0, **STEP), ONE_THREAD)
    assert promise(ground(workers=2, **STEP), ONE_THREAD) > 1.5 * alone
    assert promise(ground(workers=2, cores=16, **STEP), ONE_THREAD) == pytest.approx(alone)
