"""Judges two versions of a program that took turns: within the limits, beyond one, or not clear."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.budget import Budget
from ..schema.decision import Decision, Outcome
from ..schema.gate import BlockPair, Noise, Round, StageChange
from ..schema.paced import Block
from ..schema.stage import STAGES, Stage
from ..schema.steps import NOT_TIMED, BoolArray, Flag, Int64Array, StepTable
from .share_limits import judge_shares
from .statistics import (
    LOW_QUANTILE,
    MIN_BLOCKS,
    LogRatio,
    Values,
    drift,
    log_ratio,
    outliers,
    robust_sd,
    throughput_ratio,
    warm_up_length,
)

TYPICAL, THROUGHPUT = "typical step", "throughput"
TYPICAL_ERROR_RATE = 0.02
"""Chance, over all looks, to call the typical step beyond a limit that it equals. Identical code
is far from its limit, so this buys power, not false alarms. Source: of 27 live checks at a true
+10 %, 26 were found at this rate and 24 at 0.004 (replayed from the same blocks)."""
THROUGHPUT_ERROR_RATE = 0.005
"""The same for time over steps, whose noise has the heavier tail."""
_APART = NOT_TIMED & ~Flag.PARTIAL
"""Steps whose time is no part of training, or comes once. A loop that is left and begins anew
leaves a step without its end, and its time was spent."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What rounds show of a budget.

    Attributes:
        decisions: one for each limit that could be judged.
        gaps: sentences about those that could not.
    """

    decisions: tuple[Decision, ...]
    gaps: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """One above its limit is a regression; within the limits is only what all of them are."""
        outcomes = {decision.outcome for decision in self.decisions}
        if Outcome.ABOVE in outcomes:
            return Outcome.ABOVE
        if self.gaps or outcomes != {Outcome.BELOW}:
            return Outcome.INCONCLUSIVE
        return Outcome.BELOW


def judge(rounds: Sequence[Round], budget: Budget, looks: int) -> Judgement:
    """What the rounds so far show of each limit.

    Args:
        rounds: those of the warm-up left out.
        budget: the limits; ratios need rounds with a base.
        looks: how many there will be at most: each has its part of the error rates.
    """
    compared = compared_rounds(rounds)
    judged: list[tuple[str, LogRatio | None, float, float]] = []
    if budget.step is not None:
        judged.append((TYPICAL, _typical_ratio(compared), budget.step, TYPICAL_ERROR_RATE))
    if budget.throughput is not None:
        ratio = _throughput_ratio(compared)
        judged.append((THROUGHPUT, ratio, budget.throughput, THROUGHPUT_ERROR_RATE))
    for stage, limit in budget.stages.items():
        judged.append((stage.value, stage_ratio(compared, stage), limit, THROUGHPUT_ERROR_RATE))
    ratios = tuple(
        Decision(what, "ratio", ratio.estimate, limit, ratio.beside(limit, rate / looks))
        for what, ratio, limit, rate in judged
        if ratio is not None
    )
    shares, gaps = _judge_shares(rounds, budget, looks)
    if len(compared) >= MIN_BLOCKS:
        gaps += tuple(
            f"the ratio of {what} has a limit, but not both versions have that stage"
            for what, ratio, *_ in judged
            if ratio is None
        )
    return Judgement((*ratios, *shares), gaps)


def _judge_shares(
    rounds: Sequence[Round], budget: Budget, looks: int
) -> tuple[tuple[Decision, ...], tuple[str, ...]]:
    if not rounds or not budget.shares:
        return (), ()
    stages: dict[Stage, Values | None] = {}
    for row, stage in enumerate(STAGES):
        seen = [one.new.stage_ns[row] for one in rounds]
        known = any(taken is not None for taken in seen)
        stages[stage] = np.array([taken or 0.0 for taken in seen]) if known else None
    steps = np.array([sum(taken or 0.0 for taken in one.new.stage_ns) for one in rounds])
    processes = len({one.pair for one in rounds})
    return judge_shares(stages, steps, budget.shares, looks=looks, processes=processes)


def without_warm_up(rounds: Sequence[Round]) -> list[Round]:
    """The rounds after the warm-up, which each pair of instances has for itself."""
    kept: list[Round] = []
    for pair in sorted({one.pair for one in rounds}):
        own = [one for one in rounds if one.pair == pair]
        kept += own[warm_up_length(np.array([_level(one) for one in own])) :]
    return sorted(kept, key=lambda one: one.ended_s)


def noise(rounds: Sequence[Round], kept: Sequence[Round]) -> Noise:
    """How sure the machine lets one be.

    Args:
        rounds: all of them.
        kept: those after the warm-up; at least one.
    """
    between = [two.log_ns[0] - two.log_ns[1] for one in kept for two in _blocks(one)]
    logs = [_log_ratio(one.new, one.base) for one in kept if one.base is not None]
    levels = np.array([_level(one) for one in kept])
    grown = drift(levels)
    return Noise(
        block_share=robust_sd(np.array(between)) / math.sqrt(2),
        warm_up_blocks=sum(2 * len(_blocks(one)) for one in rounds)
        - sum(2 * len(_blocks(one)) for one in kept),
        outliers=int(outliers(np.array(logs) if logs else levels).size),
        drift=None if grown is None else math.expm1(grown),
    )


@dataclass(frozen=True, slots=True)
class Compared:
    """A round in which both versions ran."""

    pair: int
    base: BlockPair
    new: BlockPair


def compared_rounds(rounds: Sequence[Round]) -> list[Compared]:
    """Those in which both versions ran."""
    return [Compared(one.pair, one.base, one.new) for one in rounds if one.base is not None]


def _typical_ratio(rounds: Sequence[Compared]) -> LogRatio | None:
    logs = np.array([_log_ratio(one.new, one.base) for one in rounds])
    return log_ratio(logs, _pairs(rounds))


def speedup(rounds: Sequence[Round]) -> LogRatio | None:
    """How many times faster the new version's steps are; None of too few rounds.

    All time counts, not that of typical steps: every fourth one, in which the optimizer steps, is
    part of what a change gives.

    Args:
        rounds: those of the warm-up left out.
    """
    compared = compared_rounds(rounds)
    new = np.array([one.new.mean_ns for one in compared])
    base = np.array([one.base.mean_ns for one in compared])
    return throughput_ratio(base, new, _pairs(compared))


def _throughput_ratio(rounds: Sequence[Compared]) -> LogRatio | None:
    new = np.array([one.new.mean_ns for one in rounds])
    base = np.array([one.base.mean_ns for one in rounds])
    return throughput_ratio(new, base, _pairs(rounds))


def stage_ratio(rounds: Sequence[Compared], stage: Stage) -> LogRatio | None:
    """How many times longer a stage takes in the new version; None where one never saw it."""
    new, base = _stage(rounds, stage)
    if not new.sum() > 0 or not base.sum() > 0:
        return None
    return throughput_ratio(new, base, _pairs(rounds))


def stage_changes(rounds: Sequence[Compared]) -> tuple[StageChange, ...]:
    """What each stage does to the step, the largest change first."""
    found = []
    for stage in STAGES:
        new, base = _stage(rounds, stage)
        if new.any() or base.any():
            ratio = stage_ratio(rounds, stage)
            estimate = None if ratio is None else ratio.estimate
            found.append(StageChange(stage, float((new - base).mean()), estimate))
    return tuple(sorted(found, key=lambda change: -abs(change.change_ns)))


def typical_step_ns(pairs: Sequence[BlockPair]) -> float:
    """What a step takes in a typical block."""
    return math.exp(float(np.median([log for pair in pairs for log in pair.log_ns])))


def mean_step_ns(pairs: Sequence[BlockPair]) -> float:
    """Time over steps."""
    return float(np.mean([pair.mean_ns for pair in pairs]))


def mean_stage_ns(pairs: Sequence[BlockPair]) -> dict[Stage, float | None]:
    """What a step spends in each stage; None for a stage that was never seen."""
    found: dict[Stage, float | None] = {}
    for row, stage in enumerate(STAGES):
        seen = [taken for pair in pairs if (taken := pair.stage_ns[row]) is not None]
        found[stage] = sum(seen) / len(pairs) if seen else None
    return found


def sum_up(
    blocks: Sequence[Block], opponents: Sequence[Block] = (), *, with_gaps: bool = False
) -> BlockPair:
    """Two blocks of one version as the numbers that are judged.

    Args:
        blocks: of the version.
        opponents: blocks of the other one in the same round: a typical step must mean the same
            in both.
        with_gaps: whether what lies between the steps counts in their mean: loader workers start
            and end there.
    """
    as_a_whole = any(block.drain_ns or block.workers for block in (*blocks, *opponents))
    taken = [block.steps.select(_counted(block)) for block in blocks]
    steps = StepTable.concatenate(taken)
    drain_ns = sum(block.drain_ns for block in blocks)
    seen: BoolArray = np.logical_or.reduce(steps.marked, axis=0)
    means = steps.stage_ns.mean(axis=0)
    whole_ns = int(steps.step_ns.sum()) + drain_ns
    if with_gaps:
        whole_ns = sum(_passed_ns(block) for block in blocks)
    return BlockPair(
        log_ns=(
            _log(blocks[0], taken[0], as_a_whole=as_a_whole),
            _log(blocks[1], taken[1], as_a_whole=as_a_whole),
        ),
        steps=len(steps),
        mean_ns=whole_ns / len(steps),
        stage_ns=tuple(float(means[row]) if seen[row] else None for row in range(len(STAGES))),
    )


def _counted(block: Block) -> BoolArray:
    """(n,) the steps that count: the first of a block finds cold caches."""
    rows: BoolArray = (block.steps.flags & int(NOT_TIMED)) == 0
    # On a device it begins what is waited for at the end.
    if rows.sum() > 1 and not block.drain_ns:
        rows[np.argmax(rows)] = False
    return rows


def _passed_ns(block: Block) -> int:
    """What a block took, with all that lies between its steps.

    A step has what came since the one before, so that of one whose predecessor counts to the
    block before, which was followed by a pause, only itself is known.
    """
    steps = block.steps
    timed = np.flatnonzero((steps.flags & int(NOT_TIMED)) == 0)
    counted = np.flatnonzero(_counted(block))
    is_left_out = counted[0] != timed[0]
    began = int(steps.end_ns[timed[0]] if is_left_out else steps.start_ns[timed[0]])
    ended = int(steps.end_ns[counted[-1]])
    apart = (steps.flags & int(_APART)) != 0
    apart &= (steps.start_ns >= began) & (steps.end_ns <= ended)
    return ended - began - int(steps.step_ns[apart].sum()) + block.drain_ns


def _log(block: Block, steps: StepTable, *, as_a_whole: bool) -> float:
    """Logarithm of what a step takes in a block, in ns.

    Where the host runs ahead of a device, or takes from a queue what workers made by then, a step
    says little by itself: a fast one has a slow one beside it, and only the block as a whole tells.
    """
    if as_a_whole:
        return math.log((int(steps.step_ns.sum()) + block.drain_ns) / len(steps))
    return math.log(float(np.quantile(steps.step_ns, LOW_QUANTILE)))


def _log_ratio(new: BlockPair, base: BlockPair) -> float:
    return sum(new.log_ns) / 2 - sum(base.log_ns) / 2


def _blocks(one: Round) -> tuple[BlockPair, ...]:
    return (one.new,) if one.base is None else (one.base, one.new)


def _level(one: Round) -> float:
    logs = [log for blocks in _blocks(one) for log in blocks.log_ns]
    return sum(logs) / len(logs)


def _pairs(rounds: Sequence[Compared]) -> Int64Array:
    return np.array([one.pair for one in rounds], np.int64)


def _stage(rounds: Sequence[Compared], stage: Stage) -> tuple[Values, Values]:
    """(b,) mean of a stage in each round, of new and base; 0 where it was not seen."""
    row = STAGES.index(stage)
    new = np.array([one.new.stage_ns[row] or 0.0 for one in rounds])
    base = np.array([one.base.stage_ns[row] or 0.0 for one in rounds])
    return new, base
