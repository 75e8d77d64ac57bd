"""What unequal ranks cost: each against the others, and the synchronous step replayed.

A synchronous step takes as long as the slowest rank's own work and the least wait at the
collective, which is what communicating itself takes. Source of the counterfactual: what-if
replay of stragglers (FACTS §9; Lin et al., Understanding Stragglers in Large Model Training,
2025): put the other ranks' median in place of what a rank did, and see what is won.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.estimate import Estimate
from ..schema.ranks import Replay
from ..schema.stage import STAGES, Stage
from ..schema.steps import Int64Array
from .rank_grid import RankGrid
from .statistics import BETWEEN_PROCESS_LOG_SD, Values, robust_sd, share_of_sums

_ENOUGH_RANKS = 8
"""Ranks from which their own spread says how far apart equal ones are."""


@dataclass(frozen=True, slots=True, eq=False)
class Excess:
    """How much longer each rank's stages are than the other ranks' median.

    Attributes:
        parts_ns: (r, blocks, 6) weighted sums over the steps that the rank has.
        others_ns: (r, blocks, 6) of the other ranks' median likewise.
        steps_ns: (r, blocks) of the replayed step likewise.
        mean_ns: (r, 6) a step, on average.
        spread_ns: (6,) standard deviation of what equal ranks differ by, a step.
        total_spread_ns: likewise of all stages together.
    """

    parts_ns: Values
    others_ns: Values
    steps_ns: Values
    mean_ns: Values
    spread_ns: Values
    total_spread_ns: float


def replayed_ns(own_ns: Values, least_wait_ns: Values) -> Values:
    """(n,) the synchronous step.

    Args:
        own_ns: (r, n) own work of each rank.
        least_wait_ns: (n,).
    """
    steps: Values = own_ns.max(axis=0) + least_wait_ns
    return steps


def least_wait_ns(grid: RankGrid) -> Values:
    """(n,) what communicating takes: whoever comes last waits for nobody."""
    least: Values = np.nanmin(grid.wait_ns, axis=0)
    return least


def measure_excess(grid: RankGrid) -> Excess:
    """How much longer the stages of each rank are than the others' median, block by block."""
    steps = replayed_ns(grid.own_ns.sum(axis=2), least_wait_ns(grid))
    blocks = int(grid.block[-1]) + 1
    starts = np.searchsorted(grid.block, np.arange(blocks))
    shape = (len(grid.ranks), blocks)
    parts: Values = np.empty((*shape, len(STAGES)))
    others: Values = np.empty((*shape, len(STAGES)))
    wholes: Values = np.empty(shape)
    weights: Values = np.empty(shape)
    for row in range(shape[0]):
        weight = grid.weight * grid.valid[row]
        expected = grid.others_median(row)
        parts[row] = _summed((grid.own_ns[row] - expected) * weight[:, None], starts)
        others[row] = _summed(expected * weight[:, None], starts)
        wholes[row] = _summed(steps * weight, starts)
        weights[row] = _summed(weight, starts)
    counted = weights.sum(axis=1)
    mean: Values = parts.sum(axis=1) / counted[:, None]
    typical: Values = np.median(others.sum(axis=1) / counted[:, None], axis=0)
    return Excess(
        parts_ns=parts,
        others_ns=others,
        steps_ns=wholes,
        mean_ns=mean,
        spread_ns=np.array([_spread(mean[:, i], typical[i]) for i in range(len(STAGES))]),
        total_spread_ns=_spread(mean.sum(axis=1), float(typical.sum())),
    )


def share_of_excess(excess: Excess, row: int, stage: Stage | None) -> Estimate:
    """The excess of a rank in a stage, or in all of them, as a share of the step."""
    parts = _of(excess.parts_ns[row], stage)
    seen = excess.steps_ns[row] > 0
    return share_of_sums(parts[seen], excess.steps_ns[row][seen])


def longer_share(excess: Excess, row: int, stage: Stage | None) -> Estimate | None:
    """The excess as a share of what the others need; None where they need nothing."""
    parts, others = _of(excess.parts_ns[row], stage), _of(excess.others_ns[row], stage)
    seen = others > 0
    return share_of_sums(parts[seen], others[seen]) if seen.any() else None


def waits_less_than_others(grid: RankGrid, row: int) -> bool:
    """Whether a rank waits less than the others' median: whoever is late is waited for."""
    means = np.nanmean(grid.wait_ns, axis=1)
    return bool(means[row] < np.median(np.delete(means, row)))


def replay(grid: RankGrid) -> Replay:
    """The synchronous step as the ranks' own work makes it, and what of it is lost."""
    own = grid.own_ns.sum(axis=2)
    wait = least_wait_ns(grid)
    steps = replayed_ns(own, wait)
    measured = np.where(grid.valid, own + grid.wait_ns, 0).sum(axis=0) / grid.valid.sum(axis=0)
    mean = _mean(steps, grid)
    slowest = max(_mean(rank, grid) for rank in own)
    return Replay(
        steps=int(steps.size),
        step_ns=mean,
        error_share=mean / _mean(measured, grid) - 1,
        lost_share=share_of_sums(grid.by_block(_lost_ns(grid, own)), grid.by_block(steps)),
        jitter_share=(_mean(own.max(axis=0), grid) - slowest) / mean,
    )


def recovered(
    grid: RankGrid, rows: Sequence[int], stage: Stage | None
) -> tuple[Estimate, Estimate]:
    """What is won if a stage of some ranks, or all stages, take the other ranks' median.

    Args:
        grid: the ranks' own work.
        rows: the ranks to repair.
        stage: the one to repair in them; None for all.

    Returns:
        The share of the step that is won, and the share of all that is lost to unequal ranks.
    """
    own = grid.own_ns.sum(axis=2)
    wait = least_wait_ns(grid)
    repaired = own.copy()
    columns = list(range(len(STAGES))) if stage is None else [STAGES.index(stage)]
    kept = np.delete(np.arange(len(grid.ranks)), rows)
    # Several that are slow alike would be each other's median.
    median = grid.others_median(rows[0]) if len(rows) == 1 else np.median(grid.own_ns[kept], axis=0)
    for row in rows:
        change = median[:, columns].sum(axis=1) - grid.own_ns[row][:, columns].sum(axis=1)
        repaired[row] += np.where(grid.valid[row], change, 0)
    steps = replayed_ns(own, wait)
    won = grid.by_block(steps - replayed_ns(repaired, wait))
    lost = grid.by_block(_lost_ns(grid, own))
    seen = lost > 0
    return (
        share_of_sums(won, grid.by_block(steps)),
        share_of_sums(won[seen], lost[seen]) if seen.any() else Estimate(0.0, None, None, 0),
    )


def _lost_ns(grid: RankGrid, own: Values) -> Values:
    """(n,) the slowest rank's work beyond that of a rank which is at the median.

    In each stage or in all together, whichever is less: with three ranks of which one is slow,
    the stages' medians are those of the slower of two, stage by stage, which no rank is.
    """
    middle = (len(grid.ranks) - 1) // 2
    typical = np.minimum(grid.median_ns.sum(axis=1), np.partition(own, middle, axis=0)[middle])
    lost: Values = own.max(axis=0) - typical
    return lost


def _spread(means: Values, typical: float) -> float:
    """What equal ranks differ by: at least what processes of identical code do.

    A pair's ratio has the variance of both; one process against the middle of the n - 1 others
    has its own and their share of it: half of the pair's times n / (n - 1).
    """
    alone = BETWEEN_PROCESS_LOG_SD / math.sqrt(2)
    floor = alone * math.sqrt(means.size / (means.size - 1)) * typical
    return floor if means.size < _ENOUGH_RANKS else max(floor, robust_sd(means))


def _of(values: Values, stage: Stage | None) -> Values:
    chosen: Values = values.sum(axis=1) if stage is None else values[:, STAGES.index(stage)]
    return chosen


def _summed(values: Values, starts: Int64Array) -> Values:
    sums: Values = np.add.reduceat(values, starts, axis=0)
    return sums


def _mean(values: Values, grid: RankGrid) -> float:
    return float((values * grid.weight).sum() / grid.weight.sum())
