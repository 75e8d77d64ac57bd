"""The steps that ranks have in common, side by side: their own work without waiting.

Only durations are compared: each rank has its own clock. Steps are matched by their ordinal
among the training steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from ..schema.ranks import RankRecord
from ..schema.stage import STAGES, Stage
from ..schema.steps import NOT_TIMED, BoolArray, Flag, Int64Array
from .statistics import Values

_BACKWARD = STAGES.index(Stage.BACKWARD)
_WAITS_IN = (
    Stage.BACKWARD,
    Stage.OPTIMIZER,
    Stage.OTHER,
    Stage.FORWARD,
    Stage.TRANSFER,
    Stage.DATALOADER,
)
"""Where collectives are waited for, likeliest first: gradients are reduced in backward, sharded
optimizers gather in the optimizer's step, hand-written reductions are in no stage."""
_CLEARLY = 0.5
"""Part of the spread between ranks that another place of the wait must leave to be believed."""
_MAX_BLOCKS = 20


@dataclass(frozen=True, slots=True, eq=False)
class RankGrid:
    """r ranks × n steps. Where a rank has no timed step, the other ranks' median stands.

    Attributes:
        ranks: which row is which rank's.
        weight: (n,) how many steps of the run each one stands for.
        block: (n,) int64, from 0: the stretch of the run that each one lies in.
        own_ns: (r, n, 6) the stages without waiting in collectives.
        wait_ns: (r, n), NaN where there is no timed step.
        valid: (r, n) whether there is one.
        middle: (4, n, 6) the two values on either side of the others' lower and upper
            median, see `others_median`.
        median_ns: (n, 6) the lower median over the ranks: of two the faster one.
        waits_known: whether waiting was recorded. Where not, all of backward counts as
            waiting: a rank that works in it cannot be told from one that is kept waiting.
    """

    ranks: tuple[int, ...]
    weight: Values
    block: Int64Array
    own_ns: Values
    wait_ns: Values
    valid: BoolArray
    middle: Values
    median_ns: Values
    waits_known: bool

    def others_median(self, row: int) -> Values:
        """(n, 6) the median of a stage over the *other* ranks, step by step.

        With few ranks a median that includes the slow one hides half of what is lost: of two
        ranks it is their mean. Without it, each of two is held against the other, each of
        three against the mean of the others.
        """
        low, above_low, high, above_high = self.middle
        own = self.own_ns[row]
        # Taking one value out of a sorted list moves those above it down by one place.
        lower = np.where(own > low, low, above_low)
        upper = np.where(own > high, high, above_high)
        median: Values = (lower + upper) / 2
        return median

    def by_block(self, values: Values) -> Values:
        """(blocks,) weighted sums of a value a step."""
        blocks = int(self.block[-1]) + 1
        return np.bincount(self.block, values * self.weight, blocks).astype(np.float64)


def waits_are_known(ranks: Sequence[RankRecord]) -> bool:
    """Whether every rank with steps recorded how long it waited, and any of them did wait."""
    waits = [one.summary.steps.collective_wait_ns for one in ranks if len(one.summary.steps)]
    return all(wait is not None for wait in waits) and any(
        wait is not None and bool(wait.any()) for wait in waits
    )


def align(ranks: Sequence[RankRecord]) -> RankGrid | None:
    """The timed steps that at least half of the ranks (two at least) have in common.

    None where there is no such step.
    """
    timed = [_timed(one) for one in ranks]
    shown = [one.summary.ordinal[rows] for one, rows in zip(ranks, timed, strict=True)]
    if not shown:
        return None
    ordinals, counts = np.unique(np.concatenate(shown), return_counts=True)
    having = sum(bool(rows.any()) for rows in timed)
    ordinals = ordinals[counts >= max(2, -(-having // 2))]
    shared = [bool(np.isin(ordinals, one).any()) for one in shown]
    ranks = list(compress(ranks, shared))
    timed = list(compress(timed, shared))
    if not ranks:
        return None
    known = waits_are_known(ranks)
    shape = (len(ranks), int(ordinals.size))
    stages: Values = np.full((*shape, len(STAGES)), np.nan)
    waits: Values = np.full(shape, np.nan)
    weight: Values = np.ones(ordinals.size)
    for row, (one, rows) in enumerate(zip(ranks, timed, strict=True)):
        _, here, there = np.intersect1d(
            ordinals, one.summary.ordinal[rows], assume_unique=True, return_indices=True
        )
        steps = one.summary.steps.select(np.flatnonzero(rows)[there])
        stages[row, here] = steps.stage_ns
        weight[here] = one.summary.stands_for[rows][there]
        wait = steps.collective_wait_ns
        waits[row, here] = steps.stage_ns[:, _BACKWARD] if not known or wait is None else wait
    valid: BoolArray = ~np.isnan(waits)
    waits_in = place_of_wait(np.nanmean(stages, axis=1), np.nanmean(waits, axis=1))
    own = _without_wait(stages, waits, waits_in if known else Stage.BACKWARD)
    middle, median = _middles(own, valid)
    own = np.where(valid[:, :, None], own, median)
    last = int(ordinals[-1]) + 1
    block = ordinals * min(_MAX_BLOCKS, int(ordinals.size)) // last
    return RankGrid(
        ranks=tuple(one.rank for one in ranks),
        weight=weight,
        block=np.unique(block, return_inverse=True)[1].astype(np.int64),
        own_ns=own,
        wait_ns=waits,
        valid=valid,
        middle=middle,
        median_ns=median,
        waits_known=known,
    )


def place_of_wait(stages_ns: Values, waits_ns: Values) -> Stage:
    """The stage that the wait in collectives lies in: what is left differs least between ranks.

    Whoever waits long in a stage has a long stage, so taking the wait out of the right one
    makes the ranks alike there, and out of a wrong one makes them differ in both. In doubt it
    is backward.

    Args:
        stages_ns: (r, 6) means of each rank, waits included.
        waits_ns: (r,).
    """
    spreads = {}
    for stage in _WAITS_IN:
        left = _without_wait(stages_ns, waits_ns, stage)
        spreads[stage] = float(np.abs(left - np.median(left, axis=0)).sum())
    best = min(spreads, key=lambda stage: spreads[stage])
    return best if spreads[best] < _CLEARLY * spreads[Stage.BACKWARD] else Stage.BACKWARD


def _timed(rank: RankRecord) -> BoolArray:
    timed: BoolArray = (rank.summary.steps.flags & int(NOT_TIMED | Flag.DRAIN)) == 0
    return timed


def _without_wait(stages_ns: Values, waits_ns: Values, first: Stage) -> Values:
    """(..., 6) the stages, less the wait: out of `first`, then out of others, never below 0."""
    own: Values = stages_ns.copy()
    left: Values = waits_ns.copy()
    for stage in (first, *(stage for stage in _WAITS_IN if stage is not first)):
        column = own[..., STAGES.index(stage)]
        taken = np.minimum(left, column)
        column -= taken
        left -= taken
    return own


def _middles(own: Values, valid: BoolArray) -> tuple[Values, Values]:
    """What `RankGrid.middle` and `RankGrid.median_ns` hold; at least two values a step."""
    count = valid.sum(axis=0)
    # NaN is sorted behind all numbers. Lower and upper median of one value less:
    low, high = (count - 2) // 2, (count - 1) // 2
    middle: Values = np.empty((4, *own.shape[1:]))
    median: Values = np.empty(own.shape[1:])
    for column in range(own.shape[2]):  # a stage at a time: half the memory
        ranked = np.sort(own[:, :, column], axis=0)
        for row, at in enumerate((low, low + 1, high, high + 1)):
            middle[row, :, column] = np.take_along_axis(ranked, at[None], axis=0)[0]
        median[:, column] = np.take_along_axis(ranked, high[None], axis=0)[0]
    return middle, median
