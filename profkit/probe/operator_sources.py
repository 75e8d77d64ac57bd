"""Where operators are called from, told from a step that was traced with call stacks."""

import re
from collections import defaultdict
from itertools import takewhile

import numpy as np

from ..schema.stage import STAGES, Stage
from ..schema.trace import ANNOTATION, OPERATOR, TraceTable, stage_range

_FRAME = re.compile(r"(?P<file>.+)\((?P<line>\d+)\): .+")
_TORCH = re.compile(r"(?:.*/)?torch/.+")
_OWN = re.compile(r"(?:.*/)?profkit/(?:probe/.+|workloads/program\.py)")
"""profkit's marks, and its training loop: both only stand around what costs."""


def operator_sources(trace: TraceTable) -> dict[str, dict[str, str]]:
    """The place that each operator of each stage costs most at: stage → operator → `file:line`.

    The place is the innermost frame outside torch's own files and profkit's marks, or else
    the innermost frame; the line is where its function begins. Cost is total time.

    Args:
        trace: steps recorded with call stacks and `profkit:<stage>` ranges. What lies in no
            such range counts for `other`.
    """
    start = trace.start_ns
    stage = np.full(len(trace), STAGES.index(Stage.OTHER), np.int64)
    ranges = np.flatnonzero(
        trace.has_category(ANNOTATION) & trace.is_named(*map(stage_range, STAGES))
    )
    index = {stage_range(each): number for number, each in enumerate(STAGES)}
    by_start = np.argsort(start, kind="stable")
    ordered = start[by_start]
    # Outer ranges first, so that the inner ones overwrite them.
    for row in ranges[np.lexsort((-trace.duration_ns[ranges], start[ranges]))]:
        low, high = np.searchsorted(ordered, (start[row], trace.end_ns[row]))
        stage[by_start[low:high]] = index[trace.names[trace.name[row]]]
    places = [_place(stack) for stack in trace.stacks]
    spent: defaultdict[tuple[int, int], defaultdict[str, int]] = defaultdict(
        lambda: defaultdict(int)
    )
    calls = np.flatnonzero(trace.has_category(OPERATOR) & (trace.stack >= 0))
    columns = (stage, trace.name, trace.stack, trace.duration_ns)
    for of, name, stack, duration in zip(*(c[calls].tolist() for c in columns), strict=True):
        place = places[stack]
        if place is not None:
            spent[of, name][place] += duration
    sources: dict[str, dict[str, str]] = {}
    for (of, name), costs in spent.items():
        costliest = max(sorted(costs), key=lambda place: costs[place])
        sources.setdefault(STAGES[of].value, {})[trace.names[name]] = costliest
    return sources


def _place(stack: str) -> str | None:
    """`file:line` of the frame that stands for a call stack; None where no frame has a file."""
    frames = [match for frame in stack.split(";") if (match := _FRAME.fullmatch(frame))]
    if not frames:
        return None
    # Whatever called profkit's marks or its training loop stands outside of the stage.
    inside = list(takewhile(lambda frame: not _OWN.fullmatch(frame["file"]), frames))
    outside_torch = (frame for frame in inside if not _TORCH.fullmatch(frame["file"]))
    frame = next(outside_torch, frames[0])
    return f"{frame['file']}:{frame['line']}"
