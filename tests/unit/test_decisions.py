"""Decisions on simulated values whose truth is known: how often they err, and how often not."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy import special

from conftest import make_steps
from profkit.analyze.judging import (
    block_sums,
    judge_dominance,
    judge_ratio,
    judge_share,
    result_of,
)
from profkit.analyze.statistics import (
    BETWEEN_PROCESS_LOG_SD,
    DECISION_ERROR,
    Values,
    dominance,
    error_of_look,
    independent_part,
    log_ratio,
    ratio_of_means,
    share_excess,
    share_of_sums,
)
from profkit.analyze.turns import STEP, Turns, turns_of
from profkit.schema.decision import Outcome
from profkit.schema.ledger import Result
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag, StepTable

LOOKS = 4


def autoregression(draw: np.random.Generator, count: int, coefficient: float) -> Values:
    """(count,) standard normal values, neighbours alike."""
    values = draw.normal(0, 1, count)
    for i in range(1, count):
        values[i] = coefficient * values[i - 1] + math.sqrt(1 - coefficient**2) * values[i]
    return values


def blocks_of(values: Values) -> Values:
    """Sums of twenty equal runs."""
    found: Values = values.reshape(20, -1).sum(axis=1)
    return found


def share_looks(
    draw: np.random.Generator, share: float, limit: float, coefficient: float = 0.0
) -> Outcome:
    """What up to four looks say of a share, in an instance of its own."""
    count = 20 * 2 ** (LOOKS - 1) * 5
    slow = math.exp(draw.normal(0, BETWEEN_PROCESS_LOG_SD))
    noise = np.exp(0.15 * autoregression(draw, count, coefficient) - 0.15**2 / 2)
    parts, rest = share * slow * noise, np.full(count, 1 - share)
    for look in range(LOOKS):
        size = 20 * 5 * 2**look
        found = share_excess(blocks_of(parts[:size]), blocks_of(parts[:size] + rest[:size]), limit)
        assert found is not None
        side = found.side(error_of_look(LOOKS))
        if side is not Outcome.INCONCLUSIVE:
            break
    return side


@pytest.mark.parametrize("coefficient", [0.0, 0.9])
def test_a_share_at_its_limit_is_rarely_called_either_way(coefficient: float) -> None:
    draw = np.random.default_rng(1)
    trials = 1000
    found = Counter(share_looks(draw, 0.2, 0.2, coefficient) for _ in range(trials))
    for side in (Outcome.ABOVE, Outcome.BELOW):
        assert found[side] / trials <= 2 * DECISION_ERROR


def test_without_splitting_the_error_looks_would_add_up() -> None:
    """What the bound is for: the same looks at growing data, each at the whole error rate."""
    draw = np.random.default_rng(2)
    looks, trials = 8, 4000
    z = np.cumsum(draw.normal(0, 1, (trials, looks)), axis=1) / np.sqrt(np.arange(1, looks + 1))
    split = (z > special.ndtri(1 - error_of_look(looks))).any(axis=1).mean()
    whole = (z > special.ndtri(1 - DECISION_ERROR)).any(axis=1).mean()
    assert split <= DECISION_ERROR
    assert whole > 2 * DECISION_ERROR


def test_a_share_away_from_its_limit_is_seen() -> None:
    draw = np.random.default_rng(3)
    found = Counter(share_looks(draw, 0.16, 0.2, 0.3) for _ in range(200))
    assert found[Outcome.BELOW] >= 195
    assert found[Outcome.ABOVE] == 0


def turns(draw: np.random.Generator, ratio: float, groups: int, slow: float = 0.0) -> Turns:
    """Two loops of 100 ns and so many times that, in an instance each."""
    bias = math.exp(draw.normal(0, BETWEEN_PROCESS_LOG_SD))
    drift = np.exp(np.cumsum(draw.normal(0, 0.02, groups)))
    typical = np.ones((2, groups, STEP + 1))
    typical[0] *= (ratio * bias * drift * np.exp(draw.normal(0, 0.04, groups)))[:, None] * 100
    typical[1] *= (drift * np.exp(draw.normal(0, 0.04, groups)))[:, None] * 100
    mean = typical * 1.05
    mean[0] *= 1 + slow
    return Turns(
        typical, mean, np.ones((2, STEP + 1), np.bool_), np.full((2, groups), 20, np.int64)
    )


def ratio_looks(draw: np.random.Generator, ratio: float, slow: float = 0.0) -> Result:
    whole = turns(draw, ratio, 64, slow)
    for look in range(LOOKS):
        size = 8 * 2**look
        seen = Turns(
            whole.typical[:, :size], whole.mean[:, :size], whole.marked, whole.counts[:, :size]
        )
        judged = judge_ratio(seen, None, 1.1, None, 1.21, error_of_look(LOOKS))
        found = result_of(judged)
        if found is Result.FAILED or all(one.is_decided for one in judged):
            break
    return found


def test_a_ratio_at_its_limit_is_rarely_called_either_way() -> None:
    draw = np.random.default_rng(4)
    found = Counter(ratio_looks(draw, 1.1) for _ in range(500))
    assert found[Result.FAILED] <= 10
    assert found[Result.PASSED] <= 10


def test_equal_loops_pass_and_slower_ones_fail() -> None:
    draw = np.random.default_rng(5)
    equal = Counter(ratio_looks(draw, 1.0) for _ in range(150))
    assert equal[Result.FAILED] == 0
    assert equal[Result.PASSED] >= 140
    slower = Counter(ratio_looks(draw, 1.25) for _ in range(150))
    assert slower[Result.PASSED] == 0
    assert slower[Result.FAILED] >= 145


def test_rare_slow_steps_fail_by_the_mean_alone() -> None:
    draw = np.random.default_rng(6)
    found = Counter(ratio_looks(draw, 1.0, slow=0.4) for _ in range(100))
    assert found[Result.FAILED] >= 97


def test_a_mean_that_cannot_tell_stands_in_no_way() -> None:
    draw = np.random.default_rng(11)
    seen = turns(draw, 1.0, 32)
    seen.mean[0] *= np.exp(draw.normal(0, 1.0, 32))[:, None]
    typical, mean = judge_ratio(seen, None, 1.1, None, 1.21, error_of_look(LOOKS))
    assert typical.decision.outcome is Outcome.BELOW
    assert mean.decision.outcome is Outcome.INCONCLUSIVE
    assert result_of([typical, mean]) is Result.PASSED


def test_dominance_errs_rarely_where_two_stages_are_equal() -> None:
    draw = np.random.default_rng(7)
    found: Counter[Outcome] = Counter()
    trials = 1000
    for _ in range(trials):
        wholes = np.exp(draw.normal(0, 0.3, 20))
        parts, others = (0.4 * wholes * np.exp(draw.normal(0, 0.1, 20)) for _ in range(2))
        lead = dominance(parts, others, wholes)
        assert lead is not None
        found[lead.side(0.0025)] += 1
    assert found[Outcome.ABOVE] <= 10
    assert found[Outcome.BELOW] <= 10


def test_who_dominates_must_lead_all_the_others() -> None:
    steps = make_steps(
        {Stage.FORWARD: 40, Stage.BACKWARD: 35, Stage.OPTIMIZER: 5, Stage.OTHER: 0},
        200,
        noise=0.05,
    )
    sums = block_sums(steps)
    (leads,), runner_up = judge_dominance(sums, Stage.FORWARD, 0.0025)
    assert (leads.decision.outcome, runner_up) == (Outcome.ABOVE, Stage.BACKWARD)
    assert leads.decision.estimate.value == pytest.approx(5 / 80, abs=0.01)
    (trails,), runner_up = judge_dominance(sums, Stage.OPTIMIZER, 0.0025)
    assert (trails.decision.outcome, runner_up) == (Outcome.BELOW, Stage.FORWARD)


def test_a_stage_that_holds_all_or_nothing_is_decided_without_any_spread() -> None:
    sums = block_sums(make_steps({Stage.FORWARD: 100, Stage.TRANSFER: 0}, 40))
    (all_of_it,) = judge_share(sums, Stage.FORWARD, None, 0.9, 0.0025)
    assert all_of_it.decision.outcome is Outcome.ABOVE
    (none_of_it,) = judge_share(sums, Stage.TRANSFER, 0.01, None, 0.0025)
    assert none_of_it.decision.outcome is Outcome.BELOW


def test_too_few_blocks_decide_nothing() -> None:
    sums = block_sums(make_steps({Stage.FORWARD: 100}, 3))
    (found,) = judge_share(sums, Stage.FORWARD, 0.5, None, 0.0025)
    assert found.decision.outcome is Outcome.INCONCLUSIVE
    (ratio,) = judge_ratio(turns_of([]), None, 1.1, None, None, 0.0025)
    assert ratio.decision.outcome is Outcome.INCONCLUSIVE
    assert math.isnan(ratio.decision.estimate.value)


def test_rare_long_waits_do_not_spoil_the_intervals_of_shares() -> None:
    draw = np.random.default_rng(8)

    def loop(count: int) -> tuple[Values, Values]:
        parts, rest = (mean * np.exp(draw.normal(0, 0.4, count)) for mean in (0.4, 0.6))
        long = draw.exponential(3, count) * (draw.random(count) < 0.03)
        is_waiting = draw.random(count) < parts / (parts + rest)
        return parts + long * is_waiting, rest + long * ~is_waiting

    parts, rest = loop(400_000)
    truth = parts.sum() / (parts.sum() + rest.sum())
    covered, trials = 0, 600
    for _ in range(trials):
        parts, rest = (blocks_of(one) for one in loop(100))
        found = share_of_sums(parts, parts + rest)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.935 <= covered / trials <= 0.98


def test_neighbours_that_are_alike_count_for_fewer() -> None:
    draw = np.random.default_rng(9)
    alone = [independent_part(draw.normal(0, 1, 40)) for _ in range(300)]
    alike = [independent_part(autoregression(draw, 40, 0.6)) for _ in range(300)]
    assert float(np.median(alone)) > 1 / 1.4
    assert 1 / 7 < float(np.median(alike)) < 1 / 2.5  # (1 - 0.6) / (1 + 0.6) is 1/4
    assert independent_part(np.ones(10)) == 1


def test_means_that_did_not_take_turns_know_their_error() -> None:
    draw = np.random.default_rng(10)
    covered, trials = 0, 500
    for _ in range(trials):
        bias = math.exp(draw.normal(0, BETWEEN_PROCESS_LOG_SD))
        new = 130 * bias * np.exp(draw.normal(0, 0.1, 20))
        found = ratio_of_means(new, 100 * np.exp(draw.normal(0, 0.1, 20)))
        assert found is not None
        low, high = found.estimate.low, found.estimate.high
        assert low is not None
        assert high is not None
        covered += low <= 1.3 <= high
    assert 0.93 <= covered / trials <= 0.99
    assert ratio_of_means(np.ones(3), np.ones(20)) is None
    assert ratio_of_means(np.zeros(20), np.ones(20)) is None


def test_blocks_in_turns_cancel_what_drifts() -> None:
    """Group by group; the ratio of two measurements one after the other would be off."""
    groups = []
    for k in range(12):
        slow = 1 + k / 4
        new, base = (
            [make_steps({Stage.FORWARD: round(ns * slow)}, 10) for _ in range(2)]
            for ns in (3_000, 2_000)
        )
        groups.append((new, base))
    found = turns_of(groups)
    ratio = found.typical_ratio(STEP)
    assert ratio is not None
    assert ratio.estimate.value == pytest.approx(1.5, rel=0.001)
    assert found.drift == pytest.approx(math.log(1 + 11 / 4), rel=0.4)
    assert found.steps == (240, 240)
    assert log_ratio(np.zeros(3)) is None


def test_a_typical_step_means_the_same_on_a_device_and_beside_it() -> None:
    """Where one loop runs ahead of its device, a block of either counts as a whole."""

    def group(drains: bool) -> list[StepTable]:
        tables = [make_steps({Stage.FORWARD: np.array([1_000, 3_000] * 10)}, 20) for _ in range(2)]
        for table in tables:
            table.flags[-1] |= int(Flag.DRAIN) if drains else 0
        return tables

    found = turns_of([(group(True), group(False))] * 8)
    assert found.typical[:, :, STEP] == pytest.approx(2_000)
    alone = turns_of([(group(False), group(False))] * 8)
    assert alone.typical[:, :, STEP] == pytest.approx(1_000)
