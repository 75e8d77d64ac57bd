"""Judges two versions of a program that took turns: within the limits, beyond one, or not clear."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.decision import Decision, Outcome
from ..schema.gate import Noise, StageChange
from ..schema.paced import Block, Quad
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


def judge(quads: Sequence[Quad], limits: Limits, looks: int) -> tuple[Decision, ...]:
    """What the rounds so far show; nothing where there are too few.

    Args:
        quads: rounds, those of the warm-up left out.
        limits: see there.
        looks: how many there will be at most: each has its part of the error rates.
    """
    if not quads:
        return ()
    instances = np.array([quad.pair for quad in quads], np.int64)
    logs = np.array([_typical_log(quad) for quad in quads])
    sums = np.array([(_mean_ns(quad.new), _mean_ns(quad.base)) for quad in quads])
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
        found = stage_ratio(quads, stage)
        judged.append((stage.value, found, limit, THROUGHPUT_ERROR_RATE))
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


def without_warm_up(quads: Sequence[Quad]) -> list[Quad]:
    """The rounds after the warm-up, which each pair of instances has for itself."""
    kept: list[Quad] = []
    for pair in sorted({quad.pair for quad in quads}):
        own = [quad for quad in quads if quad.pair == pair]
        levels = np.array([_level(quad) for quad in own])
        kept += own[warm_up_length(levels) :]
    return sorted(kept, key=lambda quad: quad.ended_s)


def noise(quads: Sequence[Quad], kept: Sequence[Quad]) -> Noise:
    """How sure the machine lets one be.

    Args:
        quads: all rounds.
        kept: those after the warm-up; at least one.
    """
    between = [_log(two[0]) - _log(two[1]) for quad in kept for two in (quad.base, quad.new)]
    logs = np.array([_typical_log(quad) for quad in kept])
    grown = drift(np.array([_level(quad) for quad in kept]))
    return Noise(
        block_share=robust_sd(np.array(between)) / math.sqrt(2),
        warm_up_blocks=4 * (len(quads) - len(kept)),
        outliers=int(outliers(logs).size),
        drift=None if grown is None else math.expm1(grown),
    )


def stage_ratio(quads: Sequence[Quad], stage: Stage) -> LogRatio | None:
    """How many times longer a stage takes in the new version; None where one never saw it."""
    new = np.array([_mean_stage_ns(quad.new, stage) for quad in quads])
    base = np.array([_mean_stage_ns(quad.base, stage) for quad in quads])
    if not new.sum() > 0 or not base.sum() > 0:
        return None
    return throughput_ratio(new, base, np.array([quad.pair for quad in quads], np.int64))


def stage_changes(quads: Sequence[Quad]) -> tuple[StageChange, ...]:
    """What each stage does to the step, the largest change first."""
    found = []
    for stage in STAGES:
        new = float(np.mean([_mean_stage_ns(quad.new, stage) for quad in quads]))
        base = float(np.mean([_mean_stage_ns(quad.base, stage) for quad in quads]))
        if new or base:
            ratio = stage_ratio(quads, stage)
            found.append(StageChange(stage, new - base, None if ratio is None else ratio.estimate))
    return tuple(sorted(found, key=lambda change: -abs(change.change_ns)))


def typical_step_ns(blocks: Sequence[Block]) -> float:
    """What a step takes in a typical block."""
    return math.exp(float(np.median([_log(block) for block in blocks])))


def mean_step_ns(blocks: Sequence[Block]) -> float:
    """Time over steps."""
    return _mean_ns(blocks)


def mean_stage_ns(blocks: Sequence[Block]) -> dict[Stage, float | None]:
    """What a step spends in each stage; None for a stage that was never seen."""
    found: dict[Stage, float | None] = {}
    for row, stage in enumerate(STAGES):
        seen = any(bool(block.steps.marked[:, row].any()) for block in blocks)
        found[stage] = _mean_stage_ns(blocks, stage) if seen else None
    return found


def counted(steps: StepTable) -> BoolArray:
    """(n,) the steps that count: the first of a block finds cold caches."""
    rows: BoolArray = (steps.flags & int(NOT_TIMED)) == 0
    if rows.sum() > 1:
        rows[np.argmax(rows)] = False
    return rows


def _typical_log(quad: Quad) -> float:
    new, base = (sum(map(_log, blocks)) / 2 for blocks in (quad.new, quad.base))
    return new - base


def _level(quad: Quad) -> float:
    return sum(map(_log, (*quad.new, *quad.base))) / 4


def _log(block: Block) -> float:
    """Logarithm of what a step takes in a block."""
    # Where the host runs ahead of a device, or takes from a queue what workers made by then, a
    # step says little by itself: a fast one has a slow one beside it.
    if block.drain_ns or block.workers:
        return math.log(_mean_ns((block,)))
    return math.log(float(np.quantile(_step_ns(block), LOW_QUANTILE)))


def _step_ns(block: Block) -> Int64Array:
    taken: Int64Array = block.steps.step_ns[counted(block.steps)]
    return taken


def _mean_ns(blocks: Sequence[Block]) -> float:
    if any(block.drain_ns for block in blocks):
        rows = [(block.steps.flags & int(NOT_TIMED)) == 0 for block in blocks]
        total = sum(
            int(block.steps.step_ns[own].sum()) + block.drain_ns
            for block, own in zip(blocks, rows, strict=True)
        )
        return total / sum(int(own.sum()) for own in rows)
    taken: Values = np.concatenate([_step_ns(block) for block in blocks]).astype(np.float64)
    return float(taken.mean())


def _mean_stage_ns(blocks: Sequence[Block], stage: Stage) -> float:
    row = STAGES.index(stage)
    parts = [block.steps.stage_ns[counted(block.steps), row] for block in blocks]
    return float(np.concatenate(parts).mean())
