"""Which operators the time of a stage goes to, and whether the device idles meanwhile."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..schema.drilldown import Cost, Drilldown
from ..schema.stage import STAGES, Stage
from ..schema.steps import BoolArray, Int64Array
from ..schema.trace import (
    ANNOTATION,
    DEVICE,
    LOADER_END,
    OPERATOR,
    RUNTIME,
    STEP_PREFIX,
    TraceTable,
    stage_range,
)
from .nesting import ThreadTree, gaps, nest, time_within, union, without
from .places import short_place

OUTSIDE_OPERATORS = "(Python, outside operators)"
"""The row for the time of a stage in which no operator ran."""

_PROBE = "torch"
_ELSEWHERE = "another thread"
_SOURCES_NOTE = "a source is where the calling function begins"
_THREADS_NOTE = "operators of other threads count while the training thread waits for them"


@dataclass(frozen=True, slots=True, eq=False)
class _Spent:
    """Where one stage's time went.

    Attributes:
        calls: one row a call: name (index in the trace's names), context, self_ns, total_ns.
        outside_ns: time without any operator.
        stage_ns: all of the stage's time.
        periods: how many ranges make up the stage.
    """

    calls: pd.DataFrame
    outside_ns: int
    stage_ns: int
    periods: int


def all_operator_costs(
    trace: TraceTable,
    sources: Mapping[str, Mapping[str, str]] | None = None,
    stages: tuple[Stage, ...] = STAGES,
    top: int = 10,
) -> tuple[Drilldown, ...]:
    """The operators that cost each stage most, by self time.

    Every nanosecond of the traced steps goes to the innermost stage range around it (`other`
    where there is none) and to the innermost operator around it, so with all operators listed
    the self times of a stage sum to it. Where the training thread runs no operator, the time
    goes to what another thread runs just then (autograd's on CUDA), and the rest to a row of
    its own. CUDA calls that the host makes count as operators.

    Args:
        trace: a traced pass with `ProfilerStep#` and `profkit:<stage>` ranges.
        sources: stage → operator → `file:line`, from a step traced with call stacks.
        stages: the stages wanted.
        top: most operators listed a stage; the row for no operator comes on top of that.

    Returns:
        One drill-down a stage, in the order asked for; `share` is of the time of the stage.
        With a gap where the trace holds no steps or the stage was not marked in them.
    """
    steps = _steps(trace)
    if not steps.size:
        gap = "the trace holds no steps"
        return tuple(Drilldown(_PROBE, stage, 0, (), gap=gap) for stage in stages)
    host, *others = (nest(trace, rows) for rows in _threads(trace, steps))
    count = int(steps.size)
    drilldowns = []
    for stage in stages:
        shown = (sources or {}).get(stage.value, {})
        spent = _spent(trace, host, others, STAGES.index(stage))
        if spent.stage_ns:
            costs = _costliest(trace, spent, shown, top)
            notes = [_SOURCES_NOTE] if any(cost.source for cost in costs) else []
            if any(cost.context for cost in costs):
                notes.append(_THREADS_NOTE)
            note = "; ".join(notes) or None
            drilldowns.append(Drilldown(_PROBE, stage, count, costs, note=note))
        else:
            gap = f"the stage {stage.label} was not marked in the traced steps"
            drilldowns.append(Drilldown(_PROBE, stage, count, (), gap=gap))
    return tuple(drilldowns)


def device_idle_in_wait_share(trace: TraceTable) -> float | None:
    """Part of the data wait during which nothing ran on any device, 0 to 1.

    None when the trace holds no device event at all, or no data wait.
    """
    busy = np.flatnonzero(trace.has_category(*DEVICE))
    waits = np.flatnonzero(
        trace.is_named(stage_range(Stage.DATALOADER)) & trace.has_category(ANNOTATION)
    )
    waits = waits[~_holds_a_loader_end(trace, waits)]
    wait_start, wait_end = union(trace.start_ns[waits], trace.end_ns[waits])
    total = int((wait_end - wait_start).sum())
    if not busy.size or not total:
        return None
    busy_start, busy_end = union(trace.start_ns[busy], trace.end_ns[busy])
    overlap = time_within(wait_start, wait_end, busy_start, busy_end)
    return 1.0 - int(overlap.sum()) / total


def _steps(trace: TraceTable) -> Int64Array:
    """Rows of the step ranges, those whose request gave no batch left out."""
    steps = np.flatnonzero(trace.is_named_from(STEP_PREFIX) & trace.has_category(ANNOTATION))
    return steps[~_holds_a_loader_end(trace, steps)]


def _holds_a_loader_end(trace: TraceTable, rows: Int64Array) -> BoolArray:
    ends = np.sort(trace.start_ns[trace.is_named(LOADER_END)])
    first = np.searchsorted(ends, trace.start_ns[rows], "left")
    holds: BoolArray = first < np.searchsorted(ends, trace.end_ns[rows], "left")
    return holds


def _threads(trace: TraceTable, steps: Int64Array) -> list[Int64Array]:
    """Rows of operators and ranges within the steps, by thread: the training thread first.

    The other threads of the process follow, busiest first: only their operators.
    """
    calls = trace.has_category(OPERATOR, *RUNTIME) & (trace.process == trace.process[steps[0]])
    calls &= ~trace.is_named_from(STEP_PREFIX)
    ranges = trace.has_category(ANNOTATION) & trace.is_named(*map(stage_range, STAGES))
    ranges[steps] = True
    starts, ends = union(trace.start_ns[steps], trace.end_ns[steps])
    last = np.searchsorted(starts, trace.start_ns, "right") - 1
    within = (last >= 0) & (trace.start_ns < ends[np.maximum(last, 0)])
    on_host = trace.thread == trace.thread[steps[0]]
    host = np.flatnonzero(within & on_host & (calls | ranges))
    # Autograd's operators may begin before a step that they reach into: not cut by `within`.
    rest = np.flatnonzero(calls & ~on_host)
    split = [rest[trace.thread[rest] == thread] for thread in np.unique(trace.thread[rest])]
    split.sort(key=lambda rows: -int(trace.duration_ns[rows].sum()))
    return [host, *split]


def _spent(trace: TraceTable, host: ThreadTree, others: list[ThreadTree], stage: int) -> _Spent:
    is_range = trace.has_category(ANNOTATION)[host.row]
    in_stage = host.stage == stage
    duration = host.end - host.start
    tables = [_table(trace, host, np.flatnonzero(in_stage & ~is_range), host.self_ns, duration)]
    ranges = in_stage & is_range
    free_start, free_end, _ = gaps(host, ranges)
    for tree in others:
        start, end, owner = gaps(tree, np.ones(tree.row.shape, np.bool_))
        own = np.zeros(tree.row.shape, np.int64)
        np.add.at(own, owner, time_within(start, end, free_start, free_end))
        total = time_within(tree.start, tree.end, free_start, free_end)
        tables.append(_table(trace, tree, np.flatnonzero(total), own, total, _ELSEWHERE))
        roots = tree.parent < 0
        free_start, free_end = without(free_start, free_end, tree.start[roots], tree.end[roots])
    return _Spent(
        calls=pd.concat(tables, ignore_index=True),
        outside_ns=int((free_end - free_start).sum()),
        stage_ns=int(host.self_ns[in_stage].sum()),
        periods=int(ranges.sum()),
    )


def _table(
    trace: TraceTable,
    tree: ThreadTree,
    calls: Int64Array,
    self_ns: Int64Array,
    total_ns: Int64Array,
    context: str = "",
) -> pd.DataFrame:
    # A call within another one of the same operator is in that one's total already.
    name = trace.name[tree.row]
    table: pd.DataFrame = pd.DataFrame(
        {
            "name": name[calls],
            "context": context,
            "self_ns": self_ns[calls],
            "total_ns": np.where(tree.repeated, 0, total_ns)[calls],
        }
    )
    return table


def _costliest(
    trace: TraceTable, spent: _Spent, sources: Mapping[str, str], top: int
) -> tuple[Cost, ...]:
    groups = spent.calls.groupby(["name", "context"])
    sums = groups[["self_ns", "total_ns"]].sum()
    sums["count"] = groups.size()
    rows = [
        (trace.names[int(name)], str(context), int(own), int(total), int(count))
        for (name, context), own, total, count in sums.itertuples()
    ]
    rows = sorted(rows, key=lambda row: (-row[2], row[0], row[1]))[:top]
    costs = [
        Cost(
            name,
            _place(sources.get(name)),
            self_ns=own,
            total_ns=total,
            count=count,
            share=own / spent.stage_ns,
            context=context or None,
        )
        for name, context, own, total, count in rows
    ]
    if spent.outside_ns:
        share = spent.outside_ns / spent.stage_ns
        time = spent.outside_ns
        costs.append(Cost(OUTSIDE_OPERATORS, None, time, time, spent.periods, share))
    return tuple(sorted(costs, key=lambda cost: -(cost.self_ns or 0)))


def _place(source: str | None) -> str | None:
    if source is None:
        return None
    file, _, line = source.rpartition(":")
    return short_place(file, int(line)) if file and line.isdigit() else source
