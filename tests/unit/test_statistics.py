import math

import numpy as np
import pytest

from profkit.analyze.statistics import (
    BETWEEN_PROCESS_LOG_SD,
    paired_ratio,
    share_of_sums,
    split_evenly,
    summarize,
)


def test_summary_of_known_values() -> None:
    found = summarize(np.arange(1, 102, dtype=np.int64))
    assert found is not None
    assert (found.count, found.median, found.iqr, found.p95, found.total) == (101, 51, 50, 96, 5151)


def test_summary_of_nothing_is_none() -> None:
    assert summarize(np.zeros(0, np.int64)) is None


def test_a_share_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    found = share_of_sums(np.array([1.0, 0.0, 0.0, 9.0]), np.array([1.0, 1.0, 1.0, 97.0]))
    assert found.value == pytest.approx(0.10)


def test_few_blocks_carry_no_interval() -> None:
    found = share_of_sums(np.ones(3), np.full(3, 2.0))
    assert (found.value, found.low, found.high) == (0.5, None, None)
    assert paired_ratio(np.full(3, 2.0), np.ones(3)).low is None


@pytest.mark.parametrize("blocks", [8, 20])
def test_share_intervals_cover_the_truth_as_often_as_they_say(blocks: int) -> None:
    draw = np.random.default_rng(blocks)
    covered, trials = 0, 400
    for _ in range(trials):
        wholes = np.exp(draw.normal(0, 0.1, blocks))
        parts = wholes * 0.3 * np.exp(draw.normal(0, 0.2, blocks)) / math.exp(0.02)
        found = share_of_sums(parts, wholes)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / trials <= 0.98


def test_a_paired_ratio_cancels_drift_and_forgives_outliers() -> None:
    drift = np.exp(np.linspace(0, 3, 12))
    slow = 10 * drift
    slow[3] *= 40
    found = paired_ratio(slow, 2 * drift)
    assert found.value == pytest.approx(5)
    assert found.low is not None
    assert found.low < 5


def test_identical_blocks_still_leave_the_difference_between_processes() -> None:
    found = paired_ratio(np.full(12, 3.0), np.full(12, 3.0))
    assert found.value == pytest.approx(1)
    assert found.high is not None
    assert math.log(found.high) > 1.96 * BETWEEN_PROCESS_LOG_SD
    assert paired_ratio(np.full(12, 3.0), np.full(12, 3.0), processes=3).high < found.high  # type: ignore[operator]


def test_a_paired_ratio_covers_the_truth() -> None:
    draw = np.random.default_rng(5)
    covered, trials = 0, 400
    for _ in range(trials):
        bias = draw.normal(0, BETWEEN_PROCESS_LOG_SD)
        logs = math.log(1.5) + bias + draw.normal(0, 0.05, 12)
        found = paired_ratio(np.exp(logs), np.ones(12))
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.5 <= found.high
    assert covered / trials >= 0.93


def test_intervals_are_the_same_every_time_and_draw_from_no_global_stream() -> None:
    parts, wholes = np.arange(1.0, 21.0), np.arange(21.0, 41.0)
    before = np.random.get_state()[1].tolist()
    assert share_of_sums(parts, wholes) == share_of_sums(parts, wholes)
    assert np.random.get_state()[1].tolist() == before


def test_pieces_cover_everything_once() -> None:
    pieces = split_evenly(10, 4)
    assert [i for low, high in pieces for i in range(low, high)] == list(range(10))
    assert split_evenly(2, 5) == [(0, 1), (1, 2)]
