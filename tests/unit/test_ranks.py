"""Made-up ranks with a known truth: who is slow, in what, and who is only kept waiting."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import make_manifest
from launches import COMMUNICATION_NS, WORK_NS, gather, make_launch, shifted
from profkit.analyze.rank_grid import align, place_of_wait
from profkit.analyze.ranks import recovered
from profkit.diagnose.stragglers import judge_ranks
from profkit.schema.ranks import RankRecord, RanksFindings, RanksRecord
from profkit.schema.run import RankFacts
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag, StepTable
from profkit.store.rank_summary import summarize

STEP_NS = sum(WORK_NS.values()) + COMMUNICATION_NS


def named(found: RanksFindings) -> list[tuple[int, Stage | None]]:
    assert found.stragglers is not None
    return [(one.rank, one.stage) for one in found.stragglers]


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("stage", [Stage.DATALOADER, Stage.FORWARD, Stage.BACKWARD])
def test_the_slow_rank_is_named_with_its_stage_and_what_it_costs(world: int, stage: Stage) -> None:
    found = judge_ranks(gather(make_launch(world, {1: {stage: 1.4}}, noise=0.005)))
    assert named(found) == [(1, stage)]
    assert found.stragglers is not None
    (slow,) = found.stragglers
    lost_ns = 0.4 * WORK_NS[stage]
    whole_ns = STEP_NS + lost_ns
    assert slow.longer_share is not None
    assert slow.longer_share.value == pytest.approx(0.4, rel=0.05)
    assert slow.excess_share.value == pytest.approx(lost_ns / whole_ns, rel=0.05)
    # The others' own noise is what is left when the slow one is no longer waited for.
    assert slow.recovered_share.value == pytest.approx(lost_ns / whole_ns, rel=0.12)
    assert slow.without_ns == pytest.approx(STEP_NS, rel=0.02)
    assert 0.85 < slow.lost_share.value <= 1
    assert found.replay is not None
    assert abs(found.replay.error_share) < 0.01
    assert found.recovered_share is None


def test_the_victims_long_backward_is_not_their_fault() -> None:
    tables = make_launch(8, {5: {Stage.DATALOADER: 1.5}})
    found = judge_ranks(gather(tables))
    victim, slow = found.ranks[0], found.ranks[5]
    # All that a host's stages show is that backward is shorter on the slow rank.
    assert victim.stages[Stage.BACKWARD] > 1.1 * slow.stages[Stage.BACKWARD]  # type: ignore[operator]
    assert slow.wait_ns == min(one.wait_ns for one in found.ranks)  # type: ignore[type-var]
    assert named(found) == [(5, Stage.DATALOADER)]


@pytest.mark.parametrize("world", [2, 3, 8, 64])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_nobody_is_named_among_equal_ranks(world: int, noise: float) -> None:
    for seed in range(3):
        found = judge_ranks(gather(make_launch(world, noise=noise, seed=seed)))
        assert named(found) == []
        assert found.recovered_share is None


def test_two_processes_differ_by_some_percent_and_neither_is_a_straggler() -> None:
    for percent in (1, 3):
        everywhere = dict.fromkeys(Stage, 1 + percent / 100)
        assert named(judge_ranks(gather(make_launch(2, {1: everywhere}, noise=0.0)))) == []


def test_where_ranks_differ_anyway_the_slowest_does_not_stand_out() -> None:
    factors = np.exp(np.random.default_rng(0).normal(0, 0.08, 64))
    uneven = {rank: {Stage.FORWARD: float(factor)} for rank, factor in enumerate(factors)}
    assert named(judge_ranks(gather(make_launch(64, uneven)))) == []
    outlier = {**uneven, 7: {Stage.FORWARD: 2.0}}
    assert named(judge_ranks(gather(make_launch(64, outlier)))) == [(7, Stage.FORWARD)]


def test_what_may_as_well_lie_below_the_limit_is_not_named() -> None:
    for seed in range(5):
        slow = {1: {Stage.FORWARD: 1.05}}
        assert named(judge_ranks(gather(make_launch(8, slow, noise=0.05, seed=seed)))) == []


def test_a_rank_that_waits_for_others_is_not_the_one_they_wait_for() -> None:
    tables = make_launch(8)
    longer = np.zeros(6, np.int64)
    longer[[STAGES.index(Stage.OTHER), STAGES.index(Stage.BACKWARD)]] = 2_000_000
    work = tables[3].stage_ns + longer
    ends = np.cumsum(work.sum(axis=1))
    wait = tables[3].collective_wait_ns
    assert wait is not None
    tables[3] = replace(
        tables[3],
        stage_ns=work,
        start_ns=ends - work.sum(axis=1),
        end_ns=ends,
        collective_wait_ns=wait + 2_000_000,
    )
    assert named(judge_ranks(gather(tables))) == []


def test_one_pause_is_no_straggler() -> None:
    tables = make_launch(8)
    work = tables[3].stage_ns.copy()
    work[20, STAGES.index(Stage.OTHER)] += 500_000_000
    ends = np.cumsum(work.sum(axis=1))
    tables[3] = replace(tables[3], stage_ns=work, start_ns=ends - work.sum(axis=1), end_ns=ends)
    assert named(judge_ranks(gather(tables))) == []


def test_a_rank_that_is_slow_in_all_stages_has_no_stage() -> None:
    found = judge_ranks(gather(make_launch(8, {2: dict.fromkeys(Stage, 1.2)})))
    assert named(found) == [(2, None)]


def test_what_is_saved_elsewhere_costs_nobody_anything() -> None:
    # 0.6 ms longer in one stage, 0.6 ms shorter in another.
    slow = {2: {Stage.DATALOADER: 1.3, Stage.BACKWARD: 0.85}}
    for seed in range(8):
        assert named(judge_ranks(gather(make_launch(8, slow, seed=seed)))) == []


def test_ranks_that_are_slow_together_are_all_named() -> None:
    slow = {Stage.FORWARD: 1.4}
    found = judge_ranks(gather(make_launch(16, {4: slow, 5: slow, 6: slow})))
    assert sorted(named(found), key=lambda one: one[0]) == [(r, Stage.FORWARD) for r in (4, 5, 6)]
    assert found.stragglers is not None
    # Repairing one of three alone wins next to nothing; repairing all wins it back.
    assert max(one.recovered_share.value for one in found.stragglers) < 0.01
    assert found.recovered_share is not None
    assert found.recovered_share.value == pytest.approx(0.4 * 3e6 / (STEP_NS + 1.2e6), rel=0.15)


def test_among_very_many_noisy_ranks_the_slow_one_is_found_and_its_price_is_honest() -> None:
    found = judge_ranks(gather(make_launch(256, {77: {Stage.FORWARD: 1.1}}, noise=0.05)))
    assert named(found) == [(77, Stage.FORWARD)]
    assert found.stragglers is not None
    (slow,) = found.stragglers
    # At each step some other rank is late by chance: repairing this one wins hardly anything.
    assert slow.excess_share.value > 0.02
    assert slow.recovered_share.value < 0.2 * slow.excess_share.value
    assert found.replay is not None
    assert found.replay.jitter_share > 0.02


def test_below_the_limit_nobody_is_named() -> None:
    # 10 % of `other` is 0.2 % of the step.
    assert named(judge_ranks(gather(make_launch(8, {3: {Stage.OTHER: 1.1}})))) == []


@pytest.mark.parametrize("waits_in", [Stage.FORWARD, Stage.OPTIMIZER, Stage.OTHER])
@pytest.mark.parametrize("slow", [Stage.DATALOADER, Stage.BACKWARD])
def test_the_wait_may_lie_in_another_stage(waits_in: Stage, slow: Stage) -> None:
    record = gather(make_launch(8, {3: {slow: 1.5}}, waits_in=waits_in))
    assert named(judge_ranks(record)) == [(3, slow)]
    grid = align(record.ranks)
    assert grid is not None
    for stage, duration in WORK_NS.items():
        own = grid.own_ns[0, :, STAGES.index(stage)].mean()
        slack = COMMUNICATION_NS if duration < COMMUNICATION_NS else 0
        assert own == pytest.approx(duration, rel=0.02, abs=slack)


def test_in_doubt_the_wait_lies_in_backward() -> None:
    stages = np.tile(np.array([[2.0, 0, 3, 8, 1, 4]]), (4, 1))
    waits = np.array([0.0, 3, 3, 3])  # slow in backward, or in other: both explain it
    assert place_of_wait(stages, waits) is Stage.BACKWARD


def test_without_waits_recorded_that_is_said_and_nobody_is_named_on_backward() -> None:
    for slow, expected in ((Stage.DATALOADER, [(2, Stage.DATALOADER)]), (Stage.BACKWARD, [])):
        found = judge_ranks(gather(make_launch(8, {2: {slow: 1.5}}, watched=False)))
        assert named(found) == expected
        assert not found.waits_known
        assert found.wait is None
        assert any("waiting in collectives was not recorded" in gap for gap in found.gaps)
    assert judge_ranks(gather(make_launch(8))).gaps == ()


def test_one_rank_without_waits_leaves_all_without() -> None:
    tables = make_launch(4, {2: {Stage.BACKWARD: 1.5}})
    tables[0] = replace(tables[0], collective_wait_ns=None)
    found = judge_ranks(gather(tables))
    assert not found.waits_known
    assert named(found) == []


def test_ranks_that_never_wait_for_each_other_are_doubted() -> None:
    tables = make_launch(4, {1: {Stage.FORWARD: 3.0}})
    alone = []
    for steps in tables:
        wait = steps.collective_wait_ns
        assert wait is not None
        work = steps.stage_ns.copy()
        work[:, STAGES.index(Stage.BACKWARD)] -= wait - 1
        ends = np.cumsum(work.sum(axis=1))
        alone.append(
            replace(
                steps,
                start_ns=ends - work.sum(axis=1),
                end_ns=ends,
                stage_ns=work,
                collective_wait_ns=np.ones_like(wait),
            )
        )
    assert any("from the measured one" in gap for gap in judge_ranks(gather(alone)).gaps)


def test_clocks_are_not_compared() -> None:
    tables = make_launch(8, {1: {Stage.FORWARD: 1.2}})
    moved = [shifted(one, 10**12 * (7 * rank % 5)) for rank, one in enumerate(tables)]
    assert judge_ranks(gather(moved)) == judge_ranks(gather(tables))


def test_who_died_and_who_left_nothing() -> None:
    record = gather(make_launch(5), ended={3: None}, world=8)
    found = judge_ranks(record)
    assert found.world_size == 8
    assert found.died == (3,)
    assert found.missing == (5, 6, 7)
    assert named(found) == []


def test_a_different_end_is_named_and_a_running_launch_is_not_dead() -> None:
    tables = make_launch(4)
    killed = dict.fromkeys(range(4), "stopped by SIGTERM")
    assert judge_ranks(gather(tables, ended={**killed, 2: "stopped by ValueError"})).died == (2,)
    assert judge_ranks(gather(tables, ended=dict.fromkeys(range(4)))).died == ()
    assert judge_ranks(gather(tables, ended={1: "stopped by ValueError"})).died == (1,)
    both = {0: "stopped by SIGTERM", 1: "stopped by ValueError"}
    assert judge_ranks(gather(make_launch(2), ended=both)).died == (0, 1)


def test_a_rank_that_died_early_is_compared_over_the_steps_that_it_has() -> None:
    tables = make_launch(8, {6: {Stage.DATALOADER: 1.5}}, steps=100)
    tables[6] = tables[6].select(np.arange(60))
    found = judge_ranks(gather(tables, ended={6: None}))
    assert named(found) == [(6, Stage.DATALOADER)]
    assert found.stragglers is not None
    assert found.stragglers[0].longer_share is not None
    assert found.stragglers[0].longer_share.value == pytest.approx(0.5, rel=0.05)
    assert found.ranks[6].steps == 60


def test_the_dead_are_at_the_others_median_from_then_on() -> None:
    tables = make_launch(4, noise=0.0)
    for rank in (1, 2):
        tables[rank] = tables[rank].select(np.arange(30))
    found = judge_ranks(gather(tables))
    assert found.replay is not None
    assert found.replay.steps == 60
    assert found.replay.lost_share.value == pytest.approx(0, abs=1e-6)
    assert found.replay.jitter_share == pytest.approx(0, abs=1e-6)


def test_a_sampled_step_counts_for_those_that_it_stands_for() -> None:
    # Slow in the second half, of which a tenth of the sample tells.
    halves = (make_launch(4, steps=10_000), make_launch(4, {1: {Stage.FORWARD: 1.4}}, steps=10_000))
    tables = [StepTable.concatenate(parts) for parts in zip(*halves, strict=True)]
    found = judge_ranks(gather(tables))
    assert named(found) == [(1, Stage.FORWARD)]
    assert found.stragglers is not None
    assert found.stragglers[0].longer_share is not None
    assert found.stragglers[0].longer_share.value == pytest.approx(0.2, rel=0.15)
    assert found.ranks[1].steps == 20_000


@pytest.mark.parametrize("world", [2, 3, 4])
def test_no_more_is_won_than_was_lost(world: int) -> None:
    slow = {1: {Stage.FORWARD: 1.5, Stage.DATALOADER: 1.5}}
    found = judge_ranks(gather(make_launch(world, slow, noise=0.1)))
    assert found.replay is not None
    grid = align(gather(make_launch(world, slow, noise=0.1)).ranks)
    assert grid is not None
    won, share = recovered(grid, [1], None)
    assert won.value <= found.replay.lost_share.value * 1.001
    assert 0.5 < share.value <= 1.001


def test_steps_left_out_of_the_times_count_for_nobody() -> None:
    tables = make_launch(4)
    slow = tables[1].stage_ns.copy()
    slow[:30] *= 7  # it compiles, it is sampled, it evaluates: whatever the flag says
    ends = np.cumsum(slow.sum(axis=1))
    flags = tables[1].flags.copy()
    flags[:30] |= int(Flag.DISTURBED)
    tables[1] = replace(
        tables[1], stage_ns=slow, start_ns=ends - slow.sum(axis=1), end_ns=ends, flags=flags
    )
    assert named(judge_ranks(gather(tables))) == []


def test_evaluation_does_not_shift_the_steps() -> None:
    tables = make_launch(4, {2: {Stage.FORWARD: 1.3}}, noise=0.2)
    flags = np.zeros(70, np.int64)
    flags[20:30] = int(Flag.EVALUATION)
    rows = np.concatenate([np.arange(20), np.full(10, 3), np.arange(20, 60)])
    evaluating = tables[1].select(rows)
    tables_with = [*tables]
    tables_with[1] = replace(evaluating, flags=flags)
    assert judge_ranks(gather(tables_with)).replay == judge_ranks(gather(tables)).replay


def test_too_few_common_steps_are_no_basis() -> None:
    found = judge_ranks(gather(make_launch(4, {2: {Stage.FORWARD: 2}}, steps=12)))
    assert found.stragglers is None
    assert found.replay is None
    assert any("12 timed steps are common" in gap for gap in found.gaps)
    assert found.ranks[2].stages[Stage.FORWARD] == pytest.approx(6e6, rel=0.05)


def test_one_rank_or_none_with_steps_cannot_be_compared() -> None:
    alone = judge_ranks(gather(make_launch(1)))
    assert alone.stragglers is None
    assert any("nothing to compare" in gap for gap in alone.gaps)
    empty = judge_ranks(gather([StepTable.empty()] * 3))
    assert empty.stragglers is None
    assert empty.step is None
    assert all(median is None for median in empty.ranks[0].stages.values())


def test_absent_stages_stay_absent() -> None:
    found = judge_ranks(gather(make_launch(3)))
    assert found.stages[Stage.TRANSFER] is None
    assert all(one.stages[Stage.TRANSFER] is None for one in found.ranks)
    assert align(gather(make_launch(3)).ranks) is not None


def test_ranks_of_different_launches_and_restarts_are_doubted() -> None:
    steps = make_launch(3)
    ranks = []
    for rank, table in enumerate(steps):
        manifest = make_manifest(rank=RankFacts(rank, 3, "two" if rank else "one"))
        ranks.append(RankRecord(rank, rank // 2, f"rank-{rank}", manifest, summarize(table)))
    gaps = judge_ranks(RanksRecord(tuple(ranks))).gaps
    assert any("2 launches" in gap for gap in gaps)
    assert any("1 of restart 1" in gap for gap in gaps)
