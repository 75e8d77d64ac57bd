"""Two loops that took turns in short blocks: what each block took, and the ratios of the groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.stage import STAGES, Stage
from ..schema.steps import BoolArray, Flag, Int64Array, StepTable
from .breakdown import active_rows
from .statistics import (
    LOW_QUANTILE,
    LogRatio,
    Values,
    drift,
    log_ratio,
    outliers,
    ratio_of_means,
    throughput_ratio,
    warm_up_length,
)

STEP = len(STAGES)
"""Column of the whole step, after those of the stages."""


def column(stage: Stage | None) -> int:
    """Where a stage stands, or the whole step."""
    return STEP if stage is None else STAGES.index(stage)


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """Groups of four blocks, two of each loop.

    Attributes:
        typical: (2, g, 7) typical ns of a step of the first and the second loop in each group, by
            stage and for the whole step: geometric mean of the two blocks.
        mean: (2, g, 7) mean ns, rare slow steps included.
        marked: (2, 7) bool, whether the loop was seen in that stage at all.
        counts: (2, g) steps of each in each group.
    """

    typical: Values
    mean: Values
    marked: BoolArray
    counts: Int64Array

    @property
    def steps(self) -> tuple[int, int]:
        """How many of each there are."""
        first, second = self.counts.sum(axis=1).tolist()
        return first, second

    def __len__(self) -> int:
        return int(self.typical.shape[1])

    def typical_ratio(self, at: int) -> LogRatio | None:
        """First over second loop in a typical step; None of too few groups, or nothing taken."""
        over, under = self.typical[0, :, at], self.typical[1, :, at]
        if not ((over > 0) & (under > 0)).all():
            return None
        return log_ratio(np.log(over / under))

    def mean_ratio(self, at: int) -> LogRatio | None:
        """The same with every slow step in full."""
        over, under = self.mean[0, :, at], self.mean[1, :, at]
        if over.sum() <= 0 or under.sum() <= 0:
            return None
        return throughput_ratio(over, under)

    @property
    def drift(self) -> float | None:
        """By how much the steps of both grew longer meanwhile, as a log-ratio; None without."""
        return drift(np.log(self.mean[:, :, STEP]).mean(axis=0))

    @property
    def outliers(self) -> int:
        """Groups whose ratio is far from the bulk."""
        ratios = np.log(self.typical[0, :, STEP] / self.typical[1, :, STEP])
        return int(outliers(ratios).size) if ratios.size else 0

    def without_warm_up(self) -> "Turns":
        """The groups after which the steps are what they stay."""
        cold = warm_up_length(self.mean[:, :, STEP].prod(axis=0) ** 0.5) if len(self) else 0
        kept = (self.typical[:, cold:], self.mean[:, cold:])
        return Turns(*kept, self.marked, self.counts[:, cold:])


@dataclass(frozen=True, slots=True, eq=False)
class Apart:
    """The same of two loops that were measured one after the other.

    Attributes:
        first, second: (b, 7) and (c, 7) mean ns of a step in each block.
        marked: see `Turns`.
        steps: (2,) how many of each there are.
    """

    first: Values
    second: Values
    marked: BoolArray
    steps: tuple[int, int]

    def ratio(self, at: int) -> LogRatio | None:
        """First over second loop; None of too few blocks, or nothing taken."""
        return ratio_of_means(self.first[:, at], self.second[:, at])


def turns_of(
    groups: Sequence[tuple[Sequence[StepTable], Sequence[StepTable]]], *, in_bursts: bool = False
) -> Turns:
    """What groups of blocks show; those without an active step are left out.

    Args:
        groups: blocks of the first loop and of the second.
        in_bursts: whether loader workers make the batches of either: those that are there already
            cost nothing, so only a whole block tells.
    """
    typical: list[list[Values]] = []
    mean: list[list[Values]] = []
    marked = np.zeros((2, STEP + 1), np.bool_)
    counts: list[list[int]] = []
    for group in groups:
        rows = [[active_rows(table, drained=True) for table in side] for side in group]
        if any(picked.size == 0 for side in rows for picked in side):
            continue
        # Of what a device does only a whole block tells: its last step waits for all the others.
        # A typical step must mean the same in both loops, so it is the mean in either then.
        drained = any((table.flags & int(Flag.DRAIN)).any() for side in group for table in side)
        low, average = [], []
        for loop, (side, picks) in enumerate(zip(group, rows, strict=True)):
            tables = [table.select(picked) for table, picked in zip(side, picks, strict=True)]
            for table in tables:
                marked[loop] |= _marked(table)
            with np.errstate(divide="ignore"):  # a stage that took nothing
                low.append(
                    np.exp(
                        np.mean(
                            [np.log(_typical(one, in_bursts or drained)) for one in tables], axis=0
                        )
                    )
                )
            average.append(np.mean([_durations(one).mean(axis=0) for one in tables], axis=0))
        typical.append(low)
        mean.append(average)
        counts.append([sum(picked.size for picked in side) for side in rows])
    taken = np.array(counts, np.int64).reshape(-1, 2).T
    return Turns(_sides(typical), _sides(mean), marked, taken)


def block_means(table: StepTable, blocks: Sequence[Int64Array]) -> Values:
    """(b, 7) mean ns of a step in each block of rows, by stage and for the whole step."""
    durations = _durations(table)
    found: Values = np.array([durations[rows].mean(axis=0) for rows in blocks], np.float64)
    return found.reshape(-1, STEP + 1)


def marked_columns(table: StepTable) -> BoolArray:
    """(7,) bool: which stages were seen; the step is."""
    return _marked(table.select(active_rows(table, drained=True)))


def _sides(groups: list[list[Values]]) -> Values:
    """(2, g, 7) from g pairs of (7,)."""
    found: Values = np.array(groups, np.float64).reshape(-1, 2, STEP + 1).transpose(1, 0, 2)
    return found


def _durations(table: StepTable) -> Values:
    """(n, 7) ns of each stage and of the step."""
    return np.column_stack([table.stage_ns, table.step_ns]).astype(np.float64)


def _marked(table: StepTable) -> BoolArray:
    seen: BoolArray = np.append(table.marked.any(axis=0), True)
    return seen


def _typical(table: StepTable, as_a_whole: bool) -> Values:
    durations = _durations(table)
    typical: Values = (
        durations.mean(axis=0) if as_a_whole else np.quantile(durations, LOW_QUANTILE, axis=0)
    )
    return typical
