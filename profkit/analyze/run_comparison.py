"""Two or more runs beside each other: ratios, what explains them, and an order by speed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ..schema.comparison import (
    Change,
    Difference,
    PairFindings,
    RankedRun,
    RunsComparison,
    TimeChange,
)
from ..schema.estimate import Estimate
from ..schema.findings import RunFindings
from ..schema.record import RunRecord
from ..schema.stage import STAGES, Stage
from ..schema.steps import Int64Array, StepTable
from .breakdown import active_rows, blocks
from .comparability import BATCH_SIZE, mean_samples
from .letters import letter_display
from .place_changes import changed_place
from .statistics import CONFIDENCE, Values, adjust_for_number, drift
from .time_ratios import Take, TimeRatio, mean_ratio, took_turns, typical_ratio

EXPLAINING_PART = 0.1
"""Part of the step's change from which a stage is named for it."""


def compare_runs(
    records: Sequence[RunRecord],
    findings: Sequence[RunFindings],
    differences: Sequence[Difference],
) -> RunsComparison:
    """Runs beside each other: the second against the first, or all in the order of speed.

    Args:
        records: two or more, each with at least one active step.
        findings: of the same runs, in the same order.
        differences: between them, see `find_differences`.
    """
    by_sample = any(one.what == BATCH_SIZE for one in differences) and all(
        mean_samples(record) is not None for record in records
    )
    in_turns = all(took_turns(records[0], record) for record in records[1:])
    is_pair = len(records) == 2
    return RunsComparison(
        runs=tuple(findings),
        differences=tuple(differences),
        in_turns=in_turns,
        drifts=tuple(None if in_turns else _drift(record.steps) for record in records),
        pair=_compare_pair(records, findings, by_sample, in_turns) if is_pair else None,
        ranking=() if is_pair else _rank(records, by_sample),
        by_sample=by_sample,
    )


def _compare_pair(
    records: Sequence[RunRecord],
    findings: Sequence[RunFindings],
    by_sample: bool,
    in_turns: bool,
) -> PairFindings:
    base, new = records[0].steps, records[1].steps
    mean = mean_ratio(base, new, in_turns=in_turns).time_change
    stages = _stages(base, new, in_turns)
    explained_by = _explaining(mean, stages)
    times = {stage: one.times for stage, one in stages.items()}
    if mean.change in (Change.FASTER, Change.SLOWER):
        whole = mean.change_ns
        times = {stage: replace(one, part=one.change_ns / whole) for stage, one in times.items()}
    places = [
        changed_place(findings[0], findings[1], stage, times[stage]) for stage in explained_by
    ]
    found = [place for place in places if place is not None]
    return PairFindings(
        mean=mean,
        typical=typical_ratio(base, new, in_turns=in_turns).time_change,
        per_sample=mean_ratio(base, new, in_turns=in_turns, by_sample=True).time_change
        if by_sample
        else None,
        stages={stage: times.get(stage) for stage in STAGES},
        explained_by=explained_by,
        place=max(found, key=lambda place: abs(place.change_ns), default=None),
    )


@dataclass(frozen=True, slots=True)
class _StageTimes:
    """One stage in both runs, and the chance of such a ratio where nothing changed."""

    times: TimeChange
    p_value: float


def _stages(base: StepTable, new: StepTable, in_turns: bool) -> dict[Stage, _StageTimes]:
    """The stages that at least one of the runs saw."""
    found = {}
    for column, stage in enumerate(STAGES):
        take = _stage_ns(column)
        seen = [bool(steps.marked[active_rows(steps), column].any()) for steps in (base, new)]
        if not any(seen):
            continue
        if not all(active_rows(steps).size for steps in (base, new)):
            continue  # only steps that end in a drain: they have no stages
        ratio = mean_ratio(base, new, take, drained=False, in_turns=in_turns)
        if all(seen):
            p_value = 1.0 if ratio.log is None else ratio.log.p_value
            found[stage] = _StageTimes(ratio.time_change, p_value)
            continue
        # Absent is not zero: there is no ratio.
        times = TimeChange(
            ratio.base_ns if seen[0] else None, ratio.new_ns if seen[1] else None, None, None
        )
        found[stage] = _StageTimes(times, 1.0)
    return found


def _stage_ns(column: int) -> Take:
    def take(steps: StepTable) -> Int64Array:
        taken: Int64Array = steps.stage_ns[:, column]
        return taken

    return take


def _explaining(mean: TimeChange, stages: dict[Stage, _StageTimes]) -> tuple[Stage, ...]:
    """The stages that the step's change comes from, the largest first.

    Where the step shows no change, the stages that do, six looks at the same runs allowed for.
    """
    if mean.change in (Change.FASTER, Change.SLOWER):
        parts = {stage: one.times.change_ns / mean.change_ns for stage, one in stages.items()}
        large = [stage for stage, part in parts.items() if part >= EXPLAINING_PART]
        return tuple(sorted(large, key=lambda stage: -parts[stage]))
    if mean.change is not Change.NOT_SHOWN:
        return ()
    p_values: Values = np.array([one.p_value for one in stages.values()])
    sure = adjust_for_number(p_values) < 1 - CONFIDENCE
    shown = [stage for stage, is_sure in zip(stages, sure, strict=True) if is_sure]
    return tuple(sorted(shown, key=lambda stage: -abs(stages[stage].times.change_ns)))


def _rank(records: Sequence[RunRecord], by_sample: bool) -> tuple[RankedRun, ...]:
    """All runs, the fastest first."""
    ratios = {
        pair: mean_ratio(
            records[pair[0]].steps,
            records[pair[1]].steps,
            in_turns=took_turns(records[pair[0]], records[pair[1]]),
            by_sample=by_sample,
        )
        for pair in combinations(range(len(records)), 2)
    }
    times = [_own_time(record.steps, by_sample) for record in records]
    order = sorted(range(len(records)), key=lambda run: times[run])
    letters = _letters(order, ratios)
    fastest = order[0]
    return tuple(
        RankedRun(run, times[run], _over(ratios, fastest, run), letters.get(run)) for run in order
    )


def _own_time(steps: StepTable, by_sample: bool) -> float:
    return mean_ratio(steps, steps, in_turns=False, by_sample=by_sample).base_ns


def _over(ratios: dict[tuple[int, int], TimeRatio], fastest: int, run: int) -> Estimate | None:
    """The run's time over the fastest one's."""
    if run == fastest:
        return None
    if fastest < run:
        return ratios[fastest, run].ratio
    found = ratios[run, fastest].ratio
    return None if found is None else inverse(found)


def _letters(order: list[int], ratios: dict[tuple[int, int], TimeRatio]) -> dict[int, str]:
    """Letters by run, for the runs with enough blocks to tell.

    Source: pairs by Welch's test, corrected for their number after Holm; unlike Tukey's and
    Kramer's it asks for neither equal variances nor independent pairs.
    """
    tested = {pair: found.log.p_value for pair, found in ratios.items() if found.log is not None}
    # A run with too few blocks has no test with any other; one with enough has some, or is alone.
    known = [run for run in order if any(run in pair for pair in tested)]
    places = {run: place for place, run in enumerate(known)}
    adjusted = adjust_for_number(np.array(list(tested.values())))
    differing = [
        (places[one], places[other])
        for (one, other), p_value in zip(tested, adjusted, strict=True)
        if p_value < 1 - CONFIDENCE
    ]
    return dict(zip(known, letter_display(len(known), differing), strict=True))


def inverse(ratio: Estimate) -> Estimate:
    """The same ratio seen from the other side."""
    if ratio.low is None or ratio.high is None:
        return Estimate(1 / ratio.value, None, None, ratio.blocks)
    return Estimate(1 / ratio.value, 1 / ratio.high, 1 / ratio.low, ratio.blocks)


def _drift(steps: StepTable) -> float | None:
    """By how much the steps grew longer while they ran, as a ratio minus 1."""
    cut = [steps.step_ns[rows] for rows in blocks(steps, active_rows(steps))]
    values: Values = np.array([np.median(taken) for taken in cut], np.float64)
    if not values.size or not (values > 0).all():
        return None
    found = drift(np.log(values))
    return None if found is None else math.expm1(found)
