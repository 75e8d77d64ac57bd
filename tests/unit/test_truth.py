import json
from pathlib import Path

import numpy as np
import pytest

from experiments.truth.agreement import TruthError, match_starts, model_ns, read_truth
from experiments.truth.expected import agrees, expect
from experiments.truth.settings import QUICK, SETTINGS

STAGES = ("dataloader", "transfer", "forward", "backward", "optimizer", "other")


def shares(*percent: float) -> dict[str, float]:
    assert sum(percent) == pytest.approx(100)
    return {stage: value / 100 for stage, value in zip(STAGES, percent, strict=True)}


@pytest.mark.parametrize(
    ("percent", "kind"),
    [
        ((60, 0, 10, 10, 10, 10), "input-bound"),
        ((2, 0, 40, 38, 15, 5), "compute-bound"),
        ((2, 40, 20, 18, 15, 5), "transfer-bound"),
        ((2, 0, 20, 20, 50, 8), "optimizer-bound"),
        ((2, 0, 20, 20, 10, 48), "other-bound"),
        ((2, 7, 23, 24, 27, 17), "balanced"),
    ],
)
def test_each_kind_follows_from_shares_that_are_far_from_any_limit(
    percent: tuple[float, ...], kind: str
) -> None:
    found = expect(shares(*percent))
    assert found.first == {kind}


def test_what_has_the_most_at_stake_comes_first_and_the_others_beside_it() -> None:
    found = expect(shares(12, 0, 35, 35, 13, 5))
    assert found.first == {"compute-bound"}
    assert found.surely == {"compute-bound", "input-bound"}
    assert agrees(found, ["compute-bound", "input-bound"], "none")
    assert not agrees(found, ["input-bound", "compute-bound"], "moderate")
    assert not agrees(found, ["compute-bound"], "none")
    assert not agrees(found, ["compute-bound", "input-bound", "other-bound"], "none")


def test_near_a_limit_either_side_counts() -> None:
    found = expect(shares(6, 0, 23, 23, 29, 19))
    assert found.first == {"input-bound", "optimizer-bound", "other-bound", "balanced"}
    assert found.is_near_limit
    assert agrees(found, ["balanced"], "none")
    assert agrees(found, ["optimizer-bound", "other-bound"], "high")
    assert not agrees(found, ["compute-bound"], "none")


def test_the_optimizer_must_be_the_largest_stage() -> None:
    assert "optimizer-bound" not in expect(shares(2, 0, 46, 10, 38, 4)).surely
    assert "optimizer-bound" in expect(shares(2, 0, 30, 10, 54, 4)).surely


def test_an_input_bound_loop_is_severe_from_a_fifth_on() -> None:
    severe = expect(shares(60, 0, 10, 10, 10, 10))
    moderate = expect(shares(15, 0, 20, 20, 27, 18))
    open_to_both = expect(shares(21, 0, 20, 19, 23, 17))
    assert agrees(severe, ["input-bound"], "high")
    assert not agrees(severe, ["input-bound"], "moderate")
    assert moderate.high_input is False
    assert open_to_both.high_input is None


def test_a_contended_loop_is_that_before_anything_else() -> None:
    found = expect(shares(30, 0, 30, 30, 5, 5), shrink=0.5)
    assert found.first == {"contended"}
    assert agrees(found, ["contended", "input-bound"], "high")
    assert not agrees(found, ["compute-bound", "input-bound"], "none")
    assert expect(shares(30, 0, 30, 30, 5, 5), shrink=0.1).first == {"compute-bound"}


def test_insufficient_data_never_agrees() -> None:
    found = expect(shares(60, 0, 10, 10, 10, 10))
    assert not agrees(found, ["insufficient data", "input-bound"], "none")


def moments(*starts: int) -> np.ndarray:
    return np.array([[start + 10 * number for number in range(8)] for start in starts])


def test_steps_are_matched_by_their_start_and_flagged_ones_left_out() -> None:
    start = np.array([5, 105, 205, 305])
    flags = np.array([8 | 1, 0, 2, 8])
    assert match_starts(start, flags, moments(0, 100, 200, 300), 2).tolist() == [1, 3]


@pytest.mark.parametrize(
    ("start", "count"),
    [([5, 105], 3), ([5, 150], 2), ([5, 6], 2), ([-5, 105], 2)],
    ids=["count", "within a step", "twice", "before all"],
)
def test_records_that_do_not_belong_together_are_an_error(start: list[int], count: int) -> None:
    with pytest.raises(TruthError):
        match_starts(np.array(start), np.zeros(2, int), moments(0, 100), count)


def test_stages_lie_between_the_moments_and_what_comes_before_the_fetch_in_none(
    tmp_path: Path,
) -> None:
    row = [0, 50, 51, 53, 57, 65, 81, 113]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"moments": [row, row], "paid": {"data": [1, 2]}}))
    truth = read_truth(path)
    assert truth.stage_ns[0].tolist() == [1, 2, 4, 8, 16, 32]
    assert model_ns(truth, warmup=1) == 4 + 8 + 16
    assert truth.paid["data"].tolist() == [1, 2]


def test_the_matrix_is_what_the_issue_asks_for() -> None:
    names = [one.name for one in SETTINGS]
    assert len(set(names)) == len(names) >= 40
    assert {one.workers for one in SETTINGS} == {0, 1, 2, 4}
    costs = {cost for one in SETTINGS for cost in one.costs}
    assert {cost.split(":")[1] for cost in costs} == {"spin", "sleep", "io"}
    assert {one.program.rpartition(".")[2] for one in SETTINGS} == {"loop", "realistic"}
    assert set(QUICK) <= set(names)
