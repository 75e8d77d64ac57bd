"""What the gate concludes from rounds whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_steps
from profkit.analyze.gate import (
    THROUGHPUT,
    TYPICAL,
    Judgement,
    compared_rounds,
    judge,
    noise,
    stage_changes,
    sum_up,
    without_warm_up,
)
from profkit.analyze.statistics import BETWEEN_PROCESS_LOG_SD, LogRatio
from profkit.schema.budget import Budget
from profkit.schema.decision import Decision, Outcome
from profkit.schema.gate import Round
from profkit.schema.paced import Block
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag

BUDGET = Budget(step=1.05, throughput=1.10)
LOOKS = 5
STEPS = 12
PAIRS = 3
FORWARD_NS, WAIT_NS = 1_500_000, 500_000


class Machine:
    """Makes rounds: the drift of a machine, noise of blocks, processes that differ by themselves.

    Args:
        ratio: what the new version's forward takes, over the base's.
        rare: part of the new version's steps that take ten times as long.
        warm_up: rounds of each pair that take twice as long.
    """

    def __init__(
        self,
        seed: int,
        ratio: float = 1.0,
        *,
        rare: float = 0.0,
        warm_up: int = 0,
        workers: int = 0,
    ) -> None:
        self._draw = np.random.default_rng(seed)
        self._ratio, self._rare, self._warm_up = ratio, rare, warm_up
        self._workers = workers
        # Half of the variance of a pair's log-ratio falls on each of the two.
        self._bias = self._draw.normal(0, BETWEEN_PROCESS_LOG_SD / np.sqrt(2), (PAIRS, 2))

    def rounds(self, count: int) -> list[Round]:
        return [self._round(number) for number in range(count)]

    def _round(self, number: int) -> Round:
        pair = number % PAIRS
        mood = 0.3 * np.sin(number / 20) + np.log(2) * (number < PAIRS * self._warm_up)
        base = (self._block(pair, 0, mood), self._block(pair, 0, mood))
        new = (self._block(pair, 1, mood), self._block(pair, 1, mood))
        return Round(pair, float(number), sum_up(base), sum_up(new))

    def _block(self, pair: int, version: int, mood: float) -> Block:
        scale = np.exp(mood + self._bias[pair, version] + self._draw.normal(0, 0.03))
        forward = np.full(STEPS, FORWARD_NS * scale)
        wait = np.full(STEPS, WAIT_NS * scale)
        if version:
            forward *= self._ratio
            slow = self._draw.random(STEPS) < self._rare
            forward[slow] *= 10
        steps = make_steps({Stage.DATALOADER: wait, Stage.FORWARD: forward}, STEPS)
        return Block(steps, 0, self._workers)


def judged(machine: Machine, rounds: int = 60) -> dict[str, Decision]:
    return {found.what: found for found in judgement(machine, rounds).decisions}


def judgement(machine: Machine, rounds: int = 60) -> Judgement:
    return judge(machine.rounds(rounds), BUDGET, LOOKS)


def test_identical_versions_are_within_the_limit_and_never_a_regression() -> None:
    outcomes = [judgement(Machine(seed)).outcome for seed in range(60)]
    assert Outcome.ABOVE not in outcomes
    assert outcomes.count(Outcome.BELOW) > 50


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_that_takes_a_seventh_longer_is_a_regression(workers: int) -> None:
    # Forward holds three quarters of the step.
    found = [judged(Machine(seed, 1.2, workers=workers))[TYPICAL] for seed in range(40)]
    assert [one.outcome for one in found].count(Outcome.ABOVE) > 36
    assert np.median([one.estimate.value for one in found]) == pytest.approx(1.15, abs=0.01)


def test_at_the_limit_itself_it_is_inconclusive() -> None:
    ratio = 1 + 0.05 / 0.75
    outcomes = [judged(Machine(seed, ratio))[TYPICAL].outcome for seed in range(60)]
    assert outcomes.count(Outcome.INCONCLUSIVE) >= 59


def test_rare_slow_steps_are_found_by_the_throughput_and_only_there() -> None:
    found = judged(Machine(3, rare=0.05), 200)
    assert found[TYPICAL].outcome is Outcome.BELOW
    assert found[THROUGHPUT].outcome is Outcome.ABOVE
    assert judgement(Machine(3, rare=0.05), 200).outcome is Outcome.ABOVE


def test_a_stage_has_a_limit_of_its_own() -> None:
    rounds = Machine(1, 1.4).rounds(60)
    budget = Budget(stages={Stage.FORWARD: 1.10, Stage.DATALOADER: 1.10})
    found = {one.what: one.outcome for one in judge(rounds, budget, LOOKS).decisions}
    assert found == {"forward": Outcome.ABOVE, "dataloader": Outcome.BELOW}


def test_a_limit_that_cannot_be_judged_is_a_gap_and_never_within() -> None:
    for budget in (
        Budget(step=2.0, stages={Stage.BACKWARD: 1.1}),
        Budget(step=2.0, shares={Stage.BACKWARD: 0.5}),
    ):
        found = judge(Machine(1).rounds(60), budget, LOOKS)
        assert [one.outcome for one in found.decisions] == [Outcome.BELOW]
        assert "backward" in found.gaps[0]
        assert found.outcome is Outcome.INCONCLUSIVE


def test_shares_need_no_base() -> None:
    rounds = [replace(one, base=None) for one in Machine(1).rounds(60)]
    budget = Budget(shares={Stage.DATALOADER: 0.2, Stage.FORWARD: 0.9})
    found = judge(rounds, budget, LOOKS)
    assert [one.outcome for one in found.decisions] == [Outcome.ABOVE, Outcome.BELOW]
    assert found.decisions[0].estimate.value == pytest.approx(0.25)
    assert noise(rounds, rounds).block_share == pytest.approx(0.03, rel=0.4)


def test_what_explains_it_is_the_stage_that_changed() -> None:
    first, *rest = stage_changes(compared_rounds(Machine(1, 1.4).rounds(60)))
    assert first.stage is Stage.FORWARD
    assert first.ratio is not None
    assert first.ratio.value == pytest.approx(1.4, rel=0.03)
    assert first.change_ns > 5 * sum(abs(one.change_ns) for one in rest)


def test_a_warm_up_is_left_out_and_a_steady_run_kept_whole() -> None:
    rounds = Machine(1, warm_up=3).rounds(60)
    kept = without_warm_up(rounds)
    left_out = len(rounds) - len(kept)
    assert left_out == 3 * PAIRS
    assert noise(rounds, kept).warm_up_blocks == 4 * left_out
    steady = Machine(1).rounds(60)
    assert len(steady) - len(without_warm_up(steady)) <= 3


def test_the_noise_is_what_blocks_of_the_same_process_differ_by() -> None:
    rounds = Machine(1, 1.4).rounds(200)
    assert noise(rounds, rounds).block_share == pytest.approx(0.03, rel=0.2)


def test_steps_that_do_not_count_and_the_first_of_a_block_are_left_out() -> None:
    def block(forward: int) -> Block:
        taken = np.array([99_000_000, *[forward] * 10, 77_000_000])
        steps = make_steps({Stage.FORWARD: taken}, taken.size)
        steps.flags[-1] |= int(Flag.EVALUATION)
        return Block(steps, 0)

    base, new = sum_up((block(1000), block(1000))), sum_up((block(2000), block(2000)))
    rounds = [Round(0, float(row), base, new) for row in range(8)]
    for found in judge(rounds, BUDGET, LOOKS).decisions:
        assert found.estimate.value == pytest.approx(2.0)


def test_on_a_device_a_block_counts_as_a_whole() -> None:
    # The host runs ahead: its steps are short, and what they queued takes the time.
    def block(drain_ns: int) -> Block:
        return Block(make_steps({Stage.FORWARD: 1000}, 10), drain_ns)

    base, new = sum_up((block(90_000), block(90_000))), sum_up((block(290_000), block(290_000)))
    rounds = [Round(0, float(row), base, new) for row in range(8)]
    for found in judge(rounds, BUDGET, LOOKS).decisions:
        assert found.estimate.value == pytest.approx(3.0)


def test_a_typical_step_means_the_same_in_both_versions() -> None:
    """Half of the steps find their batch in the workers' queue, and half wait for it."""

    def blocks(workers: int) -> list[Block]:
        taken = np.array([1_000, 3_000] * 10 + [1_000])
        return [Block(make_steps({Stage.DATALOADER: taken}, 21), 0, workers) for _ in range(2)]

    queued, alone = blocks(2), blocks(0)
    new, base = sum_up(queued, alone), sum_up(alone, queued)
    assert new.log_ns == base.log_ns == pytest.approx((np.log(2_000),) * 2)
    assert sum_up(alone).log_ns == pytest.approx((np.log(1_000),) * 2)


def test_nothing_is_judged_by_too_few_rounds() -> None:
    for rounds in ([], Machine(1).rounds(3)):
        found = judge(rounds, BUDGET, LOOKS)
        assert (found.decisions, found.outcome) == ((), Outcome.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("center", "outcome"), [(-0.1, "below"), (0, "inconclusive"), (0.1, "above")]
)
def test_a_ratio_beside_a_limit(center: float, outcome: str) -> None:
    ratio = LogRatio(center + float(np.log(1.05)), 0.01, 20, 60)
    assert ratio.beside(1.05, 0.001).value == outcome
