import math
import tracemalloc
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from profkit.analyze.statistics import (
    BETWEEN_PROCESS_LOG_SD,
    Excess,
    LogRatio,
    LogTime,
    Values,
    adjust_for_number,
    drift,
    independent_part,
    log_mean_time,
    log_ratio,
    log_typical_time,
    outliers,
    paired_ratio,
    share_of_sums,
    split_evenly,
    summarize,
    throughput_ratio,
    unpaired_ratio,
    warm_up_length,
)
from profkit.schema.decision import Outcome
from profkit.schema.steps import Int64Array


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


@pytest.mark.parametrize("beyond", [True, False])
def test_blocks_that_resemble_their_neighbours_promise_less_of_what_comes_after(
    beyond: bool,
) -> None:
    draw = np.random.default_rng(0)
    covered, trials, blocks, correlation = 0, 400, 20, 0.6
    for _ in range(trials):
        levels = [draw.normal()]
        for _ in range(blocks - 1):
            new = draw.normal(0, math.sqrt(1 - correlation**2))
            levels.append(correlation * levels[-1] + new)
        parts = 0.3 * np.exp(0.2 * np.array(levels) - 0.02)
        found = share_of_sums(parts, np.ones(blocks), beyond=beyond)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.3 <= found.high
    # Twenty blocks tell little about how much they resemble each other: not quite 95 %.
    if beyond:
        assert covered / trials > 0.84
    else:
        assert covered / trials < 0.75


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


def test_a_ratio_of_several_pairs_of_processes_covers_the_truth() -> None:
    """In another process instance, too: which ones there were is part of the error."""
    draw = np.random.default_rng(5)
    instances = np.arange(60) % 3
    covered, trials = 0, 400
    for _ in range(trials):
        bias = draw.normal(0, BETWEEN_PROCESS_LOG_SD, 3)
        logs = math.log(1.1) + bias[instances] + draw.normal(0, 0.05, 60)
        found = log_ratio(logs, instances)
        assert found is not None
        estimate = found.estimate
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 1.1 <= estimate.high
    assert 0.92 <= covered / trials <= 0.98


@pytest.mark.parametrize(
    "ratio",
    [log_ratio, lambda logs, instances: throughput_ratio(np.exp(logs), np.ones(60), instances)],
    ids=["typical", "throughput"],
)
def test_process_instances_that_lie_far_apart_widen_the_error(
    ratio: Callable[[Values, Int64Array], LogRatio | None],
) -> None:
    instances = np.arange(60) % 3
    logs = np.random.default_rng(0).normal(0, 0.01, 60)
    near = ratio(logs, instances)
    far = ratio(logs + np.array([-0.1, 0.0, 0.1])[instances], instances)
    assert near is not None
    assert far is not None
    assert far.error > 2 * near.error


def test_instances_of_which_one_took_nothing_have_a_ratio_all_the_same() -> None:
    instances = np.arange(60) % 3
    found = throughput_ratio(np.where(instances == 1, 0.0, 3.0), np.ones(60), instances)
    assert found is not None
    assert found.estimate.value == pytest.approx(2)


def test_a_throughput_counts_the_rare_slow_blocks() -> None:
    base = np.full(100, 10.0)
    new = base.copy()
    new[::20] = 50.0
    found = throughput_ratio(new, base)
    assert found is not None
    assert found.estimate.value == pytest.approx(1.2)
    typical = log_ratio(np.log(new / base))
    assert typical is not None
    assert typical.estimate.value == pytest.approx(1.0)


def test_the_error_rate_at_a_limit_is_what_was_asked_for() -> None:
    draw = np.random.default_rng(2)
    wrong, trials = 0, 3000
    for _ in range(trials):
        logs = math.log(1.05) + draw.normal(0, BETWEEN_PROCESS_LOG_SD) + draw.normal(0, 0.02, 24)
        found = log_ratio(logs)
        assert found is not None
        wrong += found.beside(1.05, 0.05).value == "above"
    assert 0.03 <= wrong / trials <= 0.065


def test_a_warm_up_is_found_and_a_steady_series_has_none() -> None:
    draw = np.random.default_rng(3)
    steady = draw.normal(10, 0.2, 60)
    assert warm_up_length(np.concatenate([np.linspace(30, 11, 8), steady])) == 8
    found = [warm_up_length(draw.normal(10, 0.2, 60)) for _ in range(100)]
    assert found.count(0) >= 90
    assert warm_up_length(np.array([30.0, 10, 10, 10])) == 0  # too few to tell


def test_outliers_and_drift_are_named_only_where_they_are() -> None:
    draw = np.random.default_rng(4)
    steady = draw.normal(10, 0.2, 60)
    spiked = steady.copy()
    spiked[[7, 30]] = 14
    assert outliers(spiked).tolist() == [7, 30]
    assert outliers(np.full(10, 3.0)).size == 0
    assert drift(steady + np.linspace(0, 2, 60)) == pytest.approx(2, abs=0.4)
    found = [drift(draw.normal(10, 0.2, 60)) for _ in range(200)]
    assert sum(one is not None for one in found) <= 6
    assert drift(np.full(20, 3.0)) is None


def test_a_long_series_costs_no_more_memory_than_a_short_one() -> None:
    """The rounds of an hour: a slope between any two of them would take gigabytes."""
    draw = np.random.default_rng(6)
    count = 40_000
    noise = draw.normal(10, 0.2, count)
    tracemalloc.start()
    try:
        grown = drift(noise + np.linspace(0, 2, count))
        share = share_of_sums(noise, 4 * noise)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown == pytest.approx(2, abs=0.05)
    assert (share.value, share.blocks) == (0.25, count)
    assert peak < 2**27


def test_what_is_not_known_lies_on_no_side() -> None:
    assert LogRatio(math.nan, 0.01, 9.0, 9).beside(1.05, 0.01) is Outcome.INCONCLUSIVE
    assert Excess(math.nan, 0.01, 9.0, 9).side(0.01) is Outcome.INCONCLUSIVE
    assert LogRatio(0.0, math.nan, 9.0, 9).beside(1.05, 0.01) is Outcome.INCONCLUSIVE


def test_p_values_are_raised_for_their_number_after_holm() -> None:
    found = adjust_for_number(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found.tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_for_number(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert adjust_for_number(np.array([])).size == 0


@pytest.mark.parametrize("center", [-0.2, -0.03, 0.02, 0.1])
def test_a_p_value_says_the_same_as_the_interval(center: float) -> None:
    ratio = LogRatio(center, 0.03, 9.0, 10)
    low, high = ratio.estimate.low, ratio.estimate.high
    assert low is not None
    assert high is not None
    assert (ratio.p_value < 0.05) is not (low <= 1 <= high)


def test_a_mean_time_is_time_over_steps_and_a_typical_one_forgives() -> None:
    totals, counts = np.array([10.0, 20.0, 10.0, 20.0]), np.array([1.0, 2.0, 1.0, 2.0])
    mean = log_mean_time(totals, counts)
    assert mean is not None
    assert math.exp(mean.center) == pytest.approx(10)
    assert mean.error == pytest.approx(0)  # blocks of another length are not noise
    assert log_mean_time(totals[:3], counts[:3]) is None
    values = np.array([1.0, 1.0, 1.0, 1.0, 9.0])
    typical = log_typical_time(values)
    assert typical is not None
    assert math.exp(typical.center) == pytest.approx(1)
    assert log_typical_time(values[:3]) is None


@pytest.mark.parametrize("likeness", [0.0, 0.6, 0.8])
def test_blocks_that_resemble_their_neighbours_count_less(likeness: float) -> None:
    """The truth is 1; a machine's mood lasts for several blocks."""
    draw = np.random.default_rng(2)

    def mood() -> LogTime:
        logs = draw.normal(0, 0.05, 20)
        for row in range(1, 20):
            logs[row] = likeness * logs[row - 1] + math.sqrt(1 - likeness**2) * logs[row]
        found = log_mean_time(np.exp(logs), np.ones(20))
        assert found is not None
        return found

    covered, trials = 0, 400
    for _ in range(trials):
        bias = draw.normal(0, BETWEEN_PROCESS_LOG_SD)
        ratio = unpaired_ratio(mood(), mood())
        estimate = replace(ratio, center=ratio.center + bias).estimate
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= 1 <= estimate.high
    assert 0.92 <= covered / trials <= 0.98


def test_what_resembles_nothing_counts_in_full() -> None:
    assert independent_part(np.ones(8)) == 1
    assert independent_part(np.array([1.0, -1.0] * 10)) == 1
    assert 2 / 20 <= independent_part(np.arange(20.0)) < 0.2


def test_an_unpaired_ratio_joins_both_runs_and_the_spread_between_processes() -> None:
    draw = np.random.default_rng(4)
    blocks = [np.exp(draw.normal(0, sd, 20)) for sd in (0.1, 0.02)]
    base, new = (log_mean_time(values, np.ones(20)) for values in blocks)
    assert base is not None
    assert new is not None
    ratio = unpaired_ratio(new, base)
    squares = base.error**2 + new.error**2 + BETWEEN_PROCESS_LOG_SD**2
    assert ratio.error == pytest.approx(math.sqrt(squares))
    assert min(base.degrees, new.degrees) <= ratio.degrees <= base.degrees + new.degrees + 12
    assert ratio.center == pytest.approx(math.log(blocks[1].mean() / blocks[0].mean()))
    swapped = unpaired_ratio(base, new)
    assert swapped.center == -ratio.center
    assert swapped.error == pytest.approx(ratio.error)
