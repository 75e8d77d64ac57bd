"""Calls of one thread nested by containment, and arithmetic on spans of time."""

from dataclasses import dataclass

import numpy as np

from ..schema.stage import STAGES, Stage
from ..schema.steps import BoolArray, Int64Array
from ..schema.trace import ANNOTATION, STEP_PREFIX, TraceTable, stage_range

_OTHER = STAGES.index(Stage.OTHER)
_NO_STAGE = -1


@dataclass(frozen=True, slots=True, eq=False)
class ThreadTree:
    """Events of one thread, by start; a parent comes before its children and holds them whole.

    Attributes:
        row: (n,) int64, row in the trace.
        start, end: (n,) int64 ns; the end is cut to the parent's.
        parent: (n,) int64, -1 for none.
        stage: (n,) int64 index in `STAGES` of the innermost stage range around; -1: outside.
        repeated: (n,) bool, whether it runs within a call of the same name and stage.
        self_ns: (n,) int64, without the children; sums to what the outermost ones span.
    """

    row: Int64Array
    start: Int64Array
    end: Int64Array
    parent: Int64Array
    stage: Int64Array
    repeated: BoolArray
    self_ns: Int64Array


def nest(trace: TraceTable, rows: Int64Array) -> ThreadTree:
    """The rows of one thread, nested by containment; what sticks out of its parent is cut."""
    of_range = {stage_range(stage): index for index, stage in enumerate(STAGES)}
    stage_of_name = np.array(
        [
            _OTHER if name.startswith(STEP_PREFIX) else of_range.get(name, _NO_STAGE)
            for name in trace.names
        ],
        np.int64,
    )
    own = np.where(trace.has_category(ANNOTATION)[rows], stage_of_name[trace.name[rows]], _NO_STAGE)
    # Of two events with the same bounds the range is the outer one, and a step always is: no
    # operator reaches from one step into the next.
    below_step = ~trace.is_named_from(STEP_PREFIX)[rows]
    length = trace.duration_ns[rows]
    order = np.lexsort((own == _NO_STAGE, -length, below_step, trace.start_ns[rows]))
    rows, own = rows[order], own[order]
    start = trace.start_ns[rows]
    ends, stages, parents = trace.end_ns[rows].tolist(), own.tolist(), []
    around: list[int] = []
    # The clock of CUDA's own calls is not the operators': one may stick out of its caller.
    # Cutting needs the parent's cut end, so this goes one by one: 0.1 s for 200,000 events.
    for index, begin in enumerate(start.tolist()):
        while around and ends[around[-1]] <= begin:
            around.pop()
        if around:
            parent = around[-1]
            if ends[index] > ends[parent]:
                ends[index] = ends[parent]
            if stages[index] == _NO_STAGE:
                stages[index] = stages[parent]
            parents.append(parent)
        else:
            parents.append(-1)
        around.append(index)
    end, parent_of = np.array(ends, np.int64), np.array(parents, np.int64)
    self_ns = end - start
    child = np.flatnonzero(parent_of >= 0)
    np.subtract.at(self_ns, parent_of[child], (end - start)[child])
    stage = np.array(stages, np.int64)
    repeated = _is_repeated(trace.name[rows] * (len(STAGES) + 1) + stage, parent_of)
    return ThreadTree(rows, start, end, parent_of, stage, repeated, self_ns)


def _is_repeated(call: Int64Array, parent: Int64Array) -> BoolArray:
    repeated = np.zeros(call.shape, np.bool_)
    above = parent
    while (above >= 0).any():
        repeated |= (above >= 0) & (call == call[above])
        above = np.where(above >= 0, parent[above], -1)
    return repeated


def gaps(tree: ThreadTree, rows: BoolArray) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Where the picked rows run but none of their children: [start, end) ns and the row."""
    child = np.flatnonzero(tree.parent >= 0)
    child = child[rows[tree.parent[child]]]
    child = child[np.argsort(tree.parent[child], kind="stable")]
    parent = tree.parent[child]
    # Before each child, since the child before it or the beginning of the parent ...
    first = np.ones(child.shape, np.bool_)
    first[1:] = parent[1:] != parent[:-1]
    before = np.where(first, tree.start[parent], np.roll(tree.end[child], 1))
    # ... and after the last child, or all of a row without one.
    picked = np.flatnonzero(rows)
    after = tree.start.copy()
    np.maximum.at(after, parent, tree.end[child])
    start = np.concatenate([before, after[picked]])
    end = np.concatenate([tree.start[child], tree.end[picked]])
    owner = np.concatenate([parent, picked])
    some = np.flatnonzero(end > start)
    some = some[np.argsort(start[some], kind="stable")]
    return start[some], end[some], owner[some]


def union(start: Int64Array, end: Int64Array) -> tuple[Int64Array, Int64Array]:
    """The spans merged: disjoint, in order."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    reach = np.maximum.accumulate(end) if end.size else end
    fresh = np.ones(start.shape, np.bool_)
    fresh[1:] = start[1:] > reach[:-1]
    last = np.ones(start.shape, np.bool_)
    last[:-1] = fresh[1:]
    return start[fresh], reach[last]


def without(
    start: Int64Array, end: Int64Array, taken_start: Int64Array, taken_end: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """What is left of disjoint spans, in order, without other disjoint ones."""
    edges = np.concatenate([start, end, taken_start, taken_end])
    weight = np.repeat([2, -2, -1, 1], [start.size, end.size, taken_start.size, taken_end.size])
    order = np.argsort(edges, kind="stable")
    edges, level = edges[order], np.cumsum(weight[order])
    # 2: in a span and not taken; 1: in a span but taken; below: in none.
    left = np.flatnonzero((level[:-1] == 2) & (edges[1:] > edges[:-1]))
    return edges[left], edges[left + 1]


def time_within(
    start: Int64Array, end: Int64Array, span_start: Int64Array, span_end: Int64Array
) -> Int64Array:
    """(n,) int64 ns that each [start, end) shares with disjoint spans, in order."""
    if not span_start.size:
        return np.zeros(start.shape, np.int64)
    before = np.concatenate([[0], np.cumsum(span_end - span_start)])

    def until(moment: Int64Array) -> Int64Array:
        last = np.searchsorted(span_start, moment, "right") - 1
        at = np.maximum(last, 0)
        spent = before[at] + np.minimum(moment, span_end[at]) - span_start[at]
        return np.where(last >= 0, spent, 0)

    shared: Int64Array = until(end) - until(start)
    return shared
