"""The times of two runs as a ratio, whether they took turns or ran apart."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..schema.comparison import Change, TimeChange
from ..schema.estimate import Estimate
from ..schema.record import RunRecord
from ..schema.steps import Int64Array, StepTable
from .breakdown import active_rows, blocks
from .compare import pair_blocks
from .statistics import (
    MIN_BLOCKS,
    LogRatio,
    LogTime,
    Values,
    log_mean_time,
    log_ratio,
    log_typical_time,
    throughput_ratio,
    typical,
    unpaired_ratio,
)

Take = Callable[[StepTable], Int64Array]
"""(n,) int64: what is timed in each step, in ns."""


@dataclass(frozen=True, slots=True)
class TimeRatio:
    """A time in two runs.

    Attributes:
        base_ns, new_ns: the time in either.
        log: the ratio of new over base; None of too few blocks, or where one of them is 0.
        blocks: of the run with fewer of them; pairs of blocks where the runs took turns.
    """

    base_ns: float
    new_ns: float
    log: LogRatio | None
    blocks: int

    @property
    def ratio(self) -> Estimate | None:
        """With its interval; None where one of the times is 0."""
        if self.log is not None:
            return self.log.estimate
        if self.base_ns <= 0 or self.new_ns <= 0:
            return None
        return Estimate(self.new_ns / self.base_ns, None, None, self.blocks)

    @property
    def time_change(self) -> TimeChange:
        """As a fact of the comparison."""
        ratio = self.ratio
        change = None if ratio is None else what_it_shows(ratio)
        return TimeChange(self.base_ns, self.new_ns, ratio, change)


def what_it_shows(ratio: Estimate) -> Change:
    """What a ratio of times says of the one above."""
    if ratio.low is None or ratio.high is None:
        return Change.UNKNOWN
    if ratio.low > 1:
        return Change.SLOWER
    return Change.FASTER if ratio.high < 1 else Change.NOT_SHOWN


def took_turns(base: RunRecord, new: RunRecord) -> bool:
    """Whether two runs took turns in one process for long enough to compare them by that."""
    group = base.manifest.group
    if group is None or group != new.manifest.group:
        return False
    pairs, _ = pair_blocks(base.steps, new.steps, len, drained=True)
    return pairs.size >= MIN_BLOCKS


def step_ns(steps: StepTable) -> Int64Array:
    """(n,) int64, the duration of each step."""
    return steps.step_ns


def mean_ratio(
    base: StepTable,
    new: StepTable,
    take: Take = step_ns,
    *,
    drained: bool = True,
    in_turns: bool,
    by_sample: bool = False,
) -> TimeRatio:
    """The mean time of a step, new over base: rare slow steps count in full.

    Args:
        base, new: with at least one active step each.
        take: what is timed.
        drained: whether steps that end in a wait for the device's queue count.
        in_turns: whether blocks with the same number ran one soon after the other.
        by_sample: the mean time of a sample instead; all samples are known.
    """

    def weight(steps: StepTable) -> int:
        return int(steps.samples.sum()) if by_sample else len(steps)

    if in_turns:

        def mean(block: StepTable) -> float:
            return float(take(block).sum()) / weight(block)

        under, over = pair_blocks(base, new, mean, drained=drained)
        if under.size:
            paired = throughput_ratio(over, under) if over.any() and under.any() else None
            return TimeRatio(float(under.mean()), float(over.mean()), paired, int(under.size))
    logs: list[LogTime | None] = []
    means: list[float] = []
    sizes: list[int] = []
    for steps in (base, new):
        cut = [steps.select(rows) for rows in blocks(steps, active_rows(steps, drained=drained))]
        totals: Values = np.array([take(block).sum() for block in cut], np.float64)
        counts: Values = np.array([weight(block) for block in cut], np.float64)
        means.append(float(totals.sum() / counts.sum()))
        logs.append(log_mean_time(totals, counts) if totals.any() else None)
        sizes.append(len(cut))
    return TimeRatio(means[0], means[1], _unpaired(logs), min(sizes))


def typical_ratio(base: StepTable, new: StepTable, *, in_turns: bool) -> TimeRatio:
    """The median step of a typical block, new over base: rare slow steps do not count."""
    if in_turns:
        under, over = pair_blocks(base, new, _median, drained=False)
        if under.size and (under > 0).all() and (over > 0).all():
            paired = log_ratio(np.log(over / under))
            return TimeRatio(typical(under), typical(over), paired, int(under.size))
    logs: list[LogTime | None] = []
    medians: list[float] = []
    sizes: list[int] = []
    for steps in (base, new):
        cut = [steps.select(rows) for rows in blocks(steps, active_rows(steps))]
        values: Values = np.array([_median(block) for block in cut], np.float64)
        is_positive = bool((values > 0).all())
        medians.append(typical(values) if is_positive else float(np.median(values)))
        logs.append(log_typical_time(values) if is_positive else None)
        sizes.append(len(cut))
    return TimeRatio(medians[0], medians[1], _unpaired(logs), min(sizes))


def _median(steps: StepTable) -> float:
    return float(np.median(steps.step_ns))


def _unpaired(logs: list[LogTime | None]) -> LogRatio | None:
    base, new = logs
    return None if base is None or new is None else unpaired_ratio(new, base)
