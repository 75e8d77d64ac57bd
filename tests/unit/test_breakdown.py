import numpy as np
import pytest

from conftest import make_steps
from profkit.analyze.breakdown import active_rows, block_ids, blocks, break_down
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag, StepTable


def test_shares_totals_and_medians_of_known_steps() -> None:
    found = break_down(make_steps({Stage.DATALOADER: 90, Stage.FORWARD: [10] * 39 + [50]}))
    wait, forward = found.stages[Stage.DATALOADER], found.stages[Stage.FORWARD]
    assert wait is not None
    assert forward is not None
    assert wait.share.value == pytest.approx(3600 / 4040)
    assert (forward.total_ns, forward.median_ns) == (440, 10)
    assert found.steps is not None
    assert found.steps.total == 4040
    assert found.samples_per_s == pytest.approx(40 * 64 / 4040e-9)


def test_absent_stages_are_none() -> None:
    found = break_down(make_steps({Stage.FORWARD: 5}))
    assert found.stages[Stage.TRANSFER] is None
    assert found.stages[Stage.OTHER] is not None


def test_warmup_disturbed_and_partial_steps_do_not_count() -> None:
    steps = make_steps({Stage.FORWARD: [1000] * 5 + [10] * 35}, warmup=5)
    steps.flags[10] |= int(Flag.DISTURBED)
    steps.flags[39] |= int(Flag.PARTIAL)
    found = break_down(steps)
    assert found.steps is not None
    assert (found.steps.count, found.steps.total) == (33, 330)
    assert (found.warmup, found.disturbed, found.partial) == (5, 1, 1)


def test_a_drained_step_counts_for_the_block_but_not_for_the_stages() -> None:
    steps = make_steps({Stage.FORWARD: 10})
    steps.flags[7] |= int(Flag.DRAIN)
    assert 7 not in active_rows(steps)
    assert 7 in active_rows(steps, drained=True)
    steps = make_steps({Stage.FORWARD: [10] * 9 + [100] + [10] * 9 + [100]}, 20, block=10)
    steps.flags[[9, 19]] |= int(Flag.DRAIN)
    found = break_down(steps)
    assert found.steps is not None
    assert found.mean_step_ns is not None
    assert (found.steps.count, found.steps.median, found.mean_step_ns.value) == (18, 10, 19)


def test_blocks_that_took_turns_are_not_halved() -> None:
    steps = make_steps({Stage.FORWARD: 10}, count=120, block=10)
    assert [block.size for block in blocks(steps, active_rows(steps))] == [10] * 12


def test_no_steps_is_said_and_not_computed() -> None:
    found = break_down(StepTable.empty())
    assert found.steps is None
    assert found.mean_step_ns is None
    assert all(finding is None for finding in found.stages.values())


def test_no_block_spans_two_iterations() -> None:
    steps = make_steps({Stage.FORWARD: 10}, count=100, block=30)
    ids = block_ids(steps)
    cut = blocks(steps, active_rows(steps))
    assert np.concatenate(cut).tolist() == list(range(100))
    assert all(len(set(ids[block].tolist())) == 1 for block in cut)
    assert len(cut) >= 20


def test_one_long_epoch_gives_an_interval_too() -> None:
    found = break_down(make_steps({Stage.FORWARD: 10, Stage.BACKWARD: 20}, count=400, noise=0.1))
    assert found.mean_step_ns is not None
    assert found.mean_step_ns.low is not None
    assert found.mean_step_ns.blocks == 20
