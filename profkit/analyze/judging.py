"""Assertions on measured loops: what the data say of a limit, and what else to know about them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.decision import Decision, Outcome
from ..schema.estimate import Estimate
from ..schema.ledger import Result
from ..schema.stage import STAGES, Stage
from ..schema.steps import BoolArray, StepTable
from .breakdown import active_rows, blocks
from .statistics import LogRatio, Values, dominance, drift, outliers, share_excess, share_of_sums
from .turns import STEP, Apart, Turns, block_means, column, marked_columns

MEAN_ALLOWANCE = 1.10
"""How much wider than a ratio's limit the one for the mean is: rare slow steps vary more."""
_OPPOSITE = {Outcome.ABOVE: Outcome.BELOW, Outcome.BELOW: Outcome.ABOVE}


@dataclass(frozen=True, slots=True)
class Judged:
    """A decision, and what was asserted.

    Attributes:
        decision: what the data say.
        wanted: on which side of the limit the value was asserted to be.
        guards: whether it only makes an assertion fail: inconclusive, it stands in no way.
    """

    decision: Decision
    wanted: Outcome
    guards: bool = False

    @property
    def has_failed(self) -> bool:
        """Whether the value lies on the other side."""
        return self.decision.outcome is _OPPOSITE[self.wanted]

    @property
    def is_decided(self) -> bool:
        """Whether more data would say the same."""
        return self.decision.outcome is not Outcome.INCONCLUSIVE


def result_of(judged: Sequence[Judged]) -> Result:
    """How an assertion ends that makes these decisions."""
    if any(one.has_failed for one in judged):
        return Result.FAILED
    if all(one.is_decided or one.guards for one in judged):
        return Result.PASSED
    return Result.INCONCLUSIVE


# Shares ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class BlockSums:
    """Blocks of a measurement.

    Attributes:
        parts: (b, 6) ns of each stage.
        wholes: (b,) ns of all.
        marked: (7,) bool, whether the stage was seen.
    """

    parts: Values
    wholes: Values
    marked: BoolArray


def block_sums(table: StepTable) -> BlockSums:
    """What each block of the active steps took."""
    cut = blocks(table, active_rows(table))
    parts = [table.stage_ns[rows].sum(axis=0) for rows in cut]
    wholes = [table.step_ns[rows].sum() for rows in cut]
    return BlockSums(
        np.array(parts, np.float64).reshape(-1, len(STAGES)),
        np.array(wholes, np.float64),
        marked_columns(table),
    )


def judge_share(
    sums: BlockSums, stage: Stage, below: float | None, above: float | None, error_rate: float
) -> list[Judged]:
    """A stage's share beside its limits; a decision for each that is given."""
    parts = sums.parts[:, column(stage)]
    estimate = share_of_sums(parts, sums.wholes, beyond=True)
    found = []
    for limit, wanted in ((below, Outcome.BELOW), (above, Outcome.ABOVE)):
        if limit is not None:
            excess = share_excess(parts, sums.wholes, limit)
            side = Outcome.INCONCLUSIVE if excess is None else excess.side(error_rate)
            found.append(
                Judged(Decision(f"share of {stage.value}", "share", estimate, limit, side), wanted)
            )
    return found


def judge_dominance(
    sums: BlockSums, stage: Stage, error_rate: float
) -> tuple[list[Judged], Stage | None]:
    """Whether a stage's share is the largest: its lead over each other one beside 0.

    Returns:
        The decision about the runner-up, and which stage that is; of the other ones only those
        that could overtake it count, all of them where one does. None where there is no other.
    """
    at = column(stage)
    others = [i for i in range(len(STAGES)) if i != at and sums.marked[i]]
    if not others:
        return [], None
    others.sort(key=lambda i: -float(sums.parts[:, i].sum()))
    sides = []
    for other in others:
        lead = dominance(sums.parts[:, at], sums.parts[:, other], sums.wholes)
        # To dominate it must lead all of them, so each may err as often; to fail, one suffices.
        rates = (error_rate, error_rate / len(others))
        wins, fails = (Outcome.INCONCLUSIVE if lead is None else lead.side(rate) for rate in rates)
        sides.append(wins if wins is Outcome.ABOVE else fails)
    side = Outcome.ABOVE
    if Outcome.BELOW in sides:
        side = Outcome.BELOW
    elif Outcome.INCONCLUSIVE in sides:
        side = Outcome.INCONCLUSIVE
    runner_up = STAGES[others[0]]
    ahead = share_of_sums(sums.parts[:, at] - sums.parts[:, others[0]], sums.wholes, beyond=True)
    what = f"share of {stage.value} less that of {runner_up.value}"
    return [Judged(Decision(what, "share", ahead, 0.0, side), Outcome.ABOVE)], runner_up


# Ratios ---------------------------------------------------------------------------------------


def judge_ratio(
    measured: Turns | Apart,
    stage: Stage | None,
    below: float | None,
    above: float | None,
    mean_below: float | None,
    error_rate: float,
) -> list[Judged]:
    """The ratio of two loops, or of a stage in them, beside its limits.

    Args:
        measured: in turns, or one after the other; then the mean is all there is.
        stage: None for the whole step.
        below, above: limits of the ratio in a typical step.
        mean_below: limit of the ratio of the means, in which rare slow steps count; None for none.
        error_rate: see `LogRatio.beside`.
    """
    at = column(stage)
    of = "step" if stage is None else stage.value
    found = []
    if isinstance(measured, Turns):
        ratio, what, pairs = measured.typical_ratio(at), f"typical {of}", len(measured)
    else:
        ratio, what = measured.ratio(at), f"mean {of}"
        pairs = min(len(measured.first), len(measured.second))
    for limit, wanted in ((below, Outcome.BELOW), (above, Outcome.ABOVE)):
        if limit is not None:
            found.append(Judged(_decision(what, ratio, limit, pairs, error_rate), wanted))
    if isinstance(measured, Turns) and mean_below is not None:
        mean = measured.mean_ratio(at)
        what = f"mean {of}, rare slow ones included"
        decision = _decision(what, mean, mean_below, pairs, error_rate)
        found.append(Judged(decision, Outcome.BELOW, guards=True))
    return found


def _decision(
    what: str, ratio: LogRatio | None, limit: float, pairs: int, error_rate: float
) -> Decision:
    if ratio is None:
        unknown = Estimate(math.nan, None, None, pairs)
        return Decision(what, "ratio", unknown, limit, Outcome.INCONCLUSIVE)
    return Decision(what, "ratio", ratio.estimate, limit, ratio.beside(limit, error_rate))


def apart(first: StepTable, second: StepTable) -> Apart:
    """Two loops by what was measured of each alone."""
    sides, steps = [], []
    for table in (first, second):
        rows = active_rows(table, drained=True)
        steps.append(int(rows.size))
        sides.append(block_means(table, blocks(table, rows)))
    marked = np.array([marked_columns(first), marked_columns(second)])
    return Apart(sides[0], sides[1], marked, (steps[0], steps[1]))


def telling_stage(
    measured: Turns | Apart, chosen: Stage | None = None
) -> tuple[Stage, float, float] | None:
    """The stage that tells most of a ratio, and its mean ns a step in the first and second loop.

    Where the first loop is slower, the one that grew most; else what it still spends most on.

    Args:
        measured: two loops.
        chosen: take this one.
    """
    if isinstance(measured, Turns):
        if not len(measured):
            return None
        first, second = measured.mean.mean(axis=1)
    elif len(measured.first) and len(measured.second):
        first, second = measured.first.mean(axis=0), measured.second.mean(axis=0)
    else:
        return None
    costs = first - second if first[STEP] > second[STEP] else first
    stage = STAGES[int(costs[:STEP].argmax())] if chosen is None else chosen
    at = column(stage)
    return stage, float(first[at]), float(second[at])


# What else to know ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unrest:
    """What makes a result less sure than its interval says.

    Attributes:
        drift: by how much the steps grew longer while they were measured, as a ratio minus 1; None
            where there is no trend.
        outliers: blocks far from the bulk.
        blocks: of how many.
    """

    drift: float | None
    outliers: int
    blocks: int


def unrest(table: StepTable) -> Unrest:
    """Of a measurement, by the mean step of each block."""
    means = block_means(table, blocks(table, active_rows(table)))[:, -1]
    if means.size == 0:
        return Unrest(None, 0, 0)
    logs = np.log(means)
    trend = drift(logs)
    return Unrest(
        None if trend is None else math.expm1(trend), int(outliers(logs).size), int(means.size)
    )


def unrest_of_turns(turns: Turns) -> Unrest:
    """Of two loops that took turns."""
    if not len(turns):
        return Unrest(None, 0, 0)
    trend = turns.drift
    return Unrest(None if trend is None else math.expm1(trend), turns.outliers, len(turns))
