"""Judges two versions of a program that took turns: within the limits, beyond one, or not clear."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.decision import Decision, Outcome
from ..schema.gate import BlockPair, Noise, Round, StageChange
from ..schema.paced import Block
from ..schema.stage import STAGES, Stage
from ..schema.steps import NOT_TIMED, BoolArray, Int64Array, StepTable
from .statistics import (
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
LOW_QUANTILE = 0.1
"""Of a block's step times: what a step takes when nobody disturbs it. Source: FACTS of the gate's
design."""
TYPICAL_ERROR_RATE = 0.004
"""Chance, over all looks, to call the typical step beyond a limit that it equals."""
THROUGHPUT_ERROR_RATE = 0.001
"""The same for time over steps, whose noise has the heavier tail."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the new version may cost.

    Attributes:
        typical: ratio of the typical steps, new over base.
        throughput: ratio of the mean steps, rare slow ones included: wider, since that is noisier.
        stages: ratio of the mean time in a stage.
    """

    typical: float
    throughput: float
    stages: Mapping[Stage, float]


def judge(rounds: Sequence[Round], limits: Limits, looks: int) -> tuple[Decision, ...]:
    """What the rounds so far show; nothing where there are too few.

    Args:
        rounds: those of the warm-up left out.
        limits: see there.
        looks: how many there will be at most: each has its part of the error rates.
    """
    if not rounds:
        return ()
    instances = _pairs(rounds)
    logs = np.array([_log_ratio(one) for one in rounds])
    sums = np.array([(one.new.mean_ns, one.base.mean_ns) for one in rounds])
    judged: list[tuple[str, LogRatio | None, float, float]] = [
        (TYPICAL, log_ratio(logs, instances), limits.typical, TYPICAL_ERROR_RATE),
        (
            THROUGHPUT,
            throughput_ratio(sums[:, 0], sums[:, 1], instances),
            limits.throughput,
            THROUGHPUT_ERROR_RATE,
        ),
    ]
    for stage, limit in limits.stages.items():
        judged.append((stage.value, stage_ratio(rounds, stage), limit, THROUGHPUT_ERROR_RATE))
    return tuple(
        Decision(what, "ratio", ratio.estimate, limit, ratio.beside(limit, rate / looks))
        for what, ratio, limit, rate in judged
        if ratio is not None
    )


def overall(decisions: Sequence[Decision]) -> Outcome:
    """One above its limit is a regression; within the limits is only what all decisions are."""
    outcomes = {decision.outcome for decision in decisions}
    if Outcome.ABOVE in outcomes:
        return Outcome.ABOVE
    return Outcome.BELOW if outcomes == {Outcome.BELOW} else Outcome.INCONCLUSIVE


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
    between = [two.log_ns[0] - two.log_ns[1] for one in kept for two in (one.base, one.new)]
    logs = np.array([_log_ratio(one) for one in kept])
    grown = drift(np.array([_level(one) for one in kept]))
    return Noise(
        block_share=robust_sd(np.array(between)) / math.sqrt(2),
        warm_up_blocks=4 * (len(rounds) - len(kept)),
        outliers=int(outliers(logs).size),
        drift=None if grown is None else math.expm1(grown),
    )


def stage_ratio(rounds: Sequence[Round], stage: Stage) -> LogRatio | None:
    """How many times longer a stage takes in the new version; None where one never saw it."""
    new, base = _stage(rounds, stage)
    if not new.sum() > 0 or not base.sum() > 0:
        return None
    return throughput_ratio(new, base, _pairs(rounds))


def stage_changes(rounds: Sequence[Round]) -> tuple[StageChange, ...]:
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


def sum_up(blocks: Sequence[Block]) -> BlockPair:
    """Two blocks of one version as the numbers that are judged."""
    taken = [block.steps.select(_counted(block)) for block in blocks]
    steps = StepTable.concatenate(taken)
    drain_ns = sum(block.drain_ns for block in blocks)
    seen: BoolArray = np.logical_or.reduce(steps.marked, axis=0)
    means = steps.stage_ns.mean(axis=0)
    return BlockPair(
        log_ns=(_log(blocks[0], taken[0]), _log(blocks[1], taken[1])),
        steps=len(steps),
        mean_ns=(int(steps.step_ns.sum()) + drain_ns) / len(steps),
        stage_ns=tuple(float(means[row]) if seen[row] else None for row in range(len(STAGES))),
    )


def _counted(block: Block) -> BoolArray:
    """(n,) the steps that count: the first of a block finds cold caches."""
    rows: BoolArray = (block.steps.flags & int(NOT_TIMED)) == 0
    # On a device it begins what is waited for at the end.
    if rows.sum() > 1 and not block.drain_ns:
        rows[np.argmax(rows)] = False
    return rows


def _log(block: Block, steps: StepTable) -> float:
    """Logarithm of what a step takes in a block, in ns."""
    # Where the host runs ahead of a device, or takes from a queue what workers made by then, a
    # step says little by itself: a fast one has a slow one beside it.
    if block.drain_ns or block.workers:
        return math.log((int(steps.step_ns.sum()) + block.drain_ns) / len(steps))
    return math.log(float(np.quantile(steps.step_ns, LOW_QUANTILE)))


def _log_ratio(one: Round) -> float:
    return sum(one.new.log_ns) / 2 - sum(one.base.log_ns) / 2


def _level(one: Round) -> float:
    return sum((*one.new.log_ns, *one.base.log_ns)) / 4


def _pairs(rounds: Sequence[Round]) -> Int64Array:
    return np.array([one.pair for one in rounds], np.int64)


def _stage(rounds: Sequence[Round], stage: Stage) -> tuple[Values, Values]:
    """(b,) mean of a stage in each round, of new and base; 0 where it was not seen."""
    row = STAGES.index(stage)
    new = np.array([one.new.stage_ns[row] or 0.0 for one in rounds])
    base = np.array([one.base.stage_ns[row] or 0.0 for one in rounds])
    return new, base
