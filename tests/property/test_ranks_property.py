"""What holds for the ranks of any launch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from launches import gather, make_launch, shifted
from profkit.analyze.rank_grid import align
from profkit.analyze.ranks import measure_excess, recovered, replay
from profkit.analyze.statistics import weighted_median
from profkit.diagnose.stragglers import judge_ranks
from profkit.schema.sampling import stride
from profkit.schema.stage import Stage

worlds = st.integers(2, 6)
factors = st.floats(0.5, 3.0)
stages = st.sampled_from([Stage.DATALOADER, Stage.FORWARD, Stage.BACKWARD])


@given(worlds, stages, factors, st.lists(st.integers(0, 2**50), min_size=6, max_size=6))
def test_shifting_a_ranks_clock_changes_nothing(
    world: int, stage: Stage, factor: float, shifts: list[int]
) -> None:
    tables = make_launch(world, {0: {stage: factor}}, steps=24)
    moved = [shifted(one, by) for one, by in zip(tables, shifts, strict=False)]
    assert judge_ranks(gather(moved)) == judge_ranks(gather(tables))


@given(st.integers(2, 7), st.integers(0, 50))
def test_the_others_median_is_that_of_the_ranks_without_the_one(world: int, seed: int) -> None:
    grid = align(gather(make_launch(world, steps=5, noise=0.3, seed=seed)).ranks)
    assert grid is not None
    for row in range(world):
        expected = np.median(np.delete(grid.own_ns, row, axis=0), axis=0)
        np.testing.assert_allclose(grid.others_median(row), expected)


@given(worlds, stages, factors, st.integers(0, 50))
def test_what_is_recovered_was_an_excess(
    world: int, stage: Stage, factor: float, seed: int
) -> None:
    record = gather(make_launch(world, {1: {stage: factor}}, steps=24, noise=0.1, seed=seed))
    grid = align(record.ranks)
    assert grid is not None
    whole = replay(grid)
    assert 0 <= whole.lost_share.value < 1
    assert -1e-9 <= whole.jitter_share < 1
    excess = np.maximum(grid.own_ns - [grid.others_median(row) for row in range(world)], 0)
    for row in range(world):
        won, _ = recovered(grid, [row], None)
        assert won.value * whole.step_ns <= excess[row].sum(axis=1).mean() * (1 + 1e-9)
    assert measure_excess(grid).mean_ns.shape == (world, 6)


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 4)), min_size=1, max_size=12),
)
def test_a_weight_is_a_repetition(pairs: list[tuple[int, int]]) -> None:
    values = np.array([[float(value)] for value, _ in pairs])
    weights = np.array([float(weight) for _, weight in pairs])
    repeated = [value for value, weight in pairs for _ in range(weight)]
    assert weighted_median(values, weights)[0] == np.median(repeated)


@given(st.integers(0, 2**52), st.sampled_from([1, 32, 64]))
def test_a_stride_is_the_power_of_two_of_its_octave(ordinal: int, an_octave: int) -> None:
    found = int(stride(np.array([ordinal]), an_octave)[0])
    assert found & (found - 1) == 0
    # At least 1; a step's octave holds `an_octave` strides.
    octave = 1 << max(0, ordinal.bit_length() - 1)
    assert found == max(1, octave // an_octave)
