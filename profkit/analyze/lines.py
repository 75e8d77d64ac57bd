"""Line times of several processes to the costliest lines of a stage."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from ..errors import DataError
from ..schema.drilldown import Cost, Drilldown
from ..schema.stage import Stage
from .places import short_place

BACKWARD_GAP = "backward runs in C++: it has no Python lines"

CodeKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class TimedLine:
    """A line and what was spent on it, what it called included."""

    line: int
    hits: int
    time_ns: int
    text: str


@dataclass(frozen=True, slots=True)
class TimedFunction:
    """A function that was timed; `stage` is None where it was not asked for one in particular."""

    name: str
    file: str
    first_line: int
    stage: Stage | None
    lines: tuple[TimedLine, ...]


@dataclass(frozen=True, slots=True)
class TimedCall:
    """A line of a timed function that was seen to lead to another timed function."""

    file: str
    first_line: int
    line: int
    callee_file: str
    callee_first_line: int
    count: int


@dataclass(frozen=True, slots=True)
class LineFigures:
    """What one process measured; see `probe.line_times` for the file."""

    schema: int
    process: str
    gap: str | None
    event_ns: int
    functions: tuple[TimedFunction, ...]
    calls: tuple[TimedCall, ...]
    without_lines: tuple[str, ...]


def read_figures(document: object) -> LineFigures:
    """The figures in a decoded JSON document.

    Raises:
        DataError: it is not a document of `probe.line_times`.
    """
    try:
        figures = msgspec.convert(document, LineFigures)
    except msgspec.ValidationError as error:
        raise DataError(f"line times cannot be read ({error}): trace the run again") from error
    if figures.schema != 1:
        raise DataError(f"line times are schema {figures.schema}; this profkit reads 1: upgrade it")
    return figures


def line_costs(
    figures: Iterable[LineFigures | object], stage: Stage, steps: int, top: int = 10
) -> Drilldown:
    """The costliest lines of a stage, merged over processes.

    Args:
        figures: one for each process, typed or as decoded JSON.
        stage: the stage looked at; functions that were asked for no stage count for any.
        steps: steps that were timed, as told by the caller.
        top: most rows given.

    Returns:
        Costs named by the line's source text. `total_ns` is what line_profiler measured,
        callees included. `self_ns` is that minus the time of timed functions that the line was
        seen to call, and minus what tracing their lines costs; a callee that several lines call
        is divided by how often each did. Lines without self time are left out. `share` is
        `self_ns` out of the sum over all timed lines of the stage, so shares sum to at most 1
        although line times nest. Lines of workers are rows of their own: worker-seconds are not
        seconds of the step.

    Raises:
        DataError: a document that is not one of line times.
    """
    read = [each if isinstance(each, LineFigures) else read_figures(each) for each in figures]
    rows: list[Cost] = []
    for process in ("main", "worker"):
        rows += _costs([each for each in read if each.process == process], stage)
    total = sum(row.self_ns or 0 for row in rows)
    rows.sort(key=lambda row: (-(row.self_ns or 0), row.source or ""))
    costs = tuple(
        Cost(
            row.name,
            row.source,
            row.self_ns,
            row.total_ns,
            row.count,
            (row.self_ns or 0) / total,
            row.context,
        )
        for row in rows[:top]
        if row.self_ns
    )
    if not costs:
        return Drilldown("lines", stage, steps, (), gap=_gap(read, stage))
    return Drilldown("lines", stage, steps, costs, note=_note(read))


def _costs(figures: list[LineFigures], stage: Stage) -> list[Cost]:
    """One cost a line of the processes of one kind; shares are left to the caller."""
    times: Counter[tuple[CodeKey, int]] = Counter()
    hits: Counter[tuple[CodeKey, int]] = Counter()
    spent: Counter[CodeKey] = Counter()
    texts: dict[tuple[CodeKey, int], str] = {}
    wanted: set[CodeKey] = set()
    calls: defaultdict[CodeKey, Counter[tuple[CodeKey, int]]] = defaultdict(Counter)
    for each in figures:
        for function in each.functions:
            code = (function.file, function.first_line)
            if function.stage in (None, stage):
                wanted.add(code)
            for line in function.lines:
                times[(code, line.line)] += line.time_ns
                hits[(code, line.line)] += line.hits
                # To its caller a traced line costs more than what is measured for it.
                spent[code] += line.time_ns + line.hits * each.event_ns
                texts[(code, line.line)] = line.text
        for call in each.calls:
            callee = (call.callee_file, call.callee_first_line)
            calls[callee][((call.file, call.first_line), call.line)] += call.count
    own = _self_times(times, spent, calls)
    context = "worker" if figures and figures[0].process == "worker" else None
    return [
        Cost(
            texts[where] or "(no source text)",
            short_place(where[0][0], where[1]),
            own[where],
            times[where],
            hits[where],
            0.0,
            context,
        )
        for where in times
        if where[0] in wanted
    ]


def _self_times(
    times: Counter[tuple[CodeKey, int]],
    spent: Counter[CodeKey],
    calls: dict[CodeKey, Counter[tuple[CodeKey, int]]],
) -> dict[tuple[CodeKey, int], int]:
    own = dict(times)
    for callee, callers in calls.items():
        count = callers.total() if hasattr(callers, "total") else sum(callers.values())
        for where, part in callers.items():
            # A function within itself: line_profiler has ended the outer line there already.
            if where in own and where[0] != callee:
                own[where] -= spent[callee] * part // count
    # What falls below 0 was also called from elsewhere, or traced faster than when calibrated.
    return {where: max(0, left) for where, left in own.items()}


def _gap(figures: list[LineFigures], stage: Stage) -> str:
    if stage is Stage.BACKWARD:
        return BACKWARD_GAP
    if gap := next((each.gap for each in figures if each.gap), None):
        return gap
    compiled = sorted({name for each in figures for name in each.without_lines})
    if compiled:
        return "no line was timed: compiled code has none (" + ", ".join(compiled[:5]) + ")"
    return "no Python function of this stage was timed"


def _note(figures: list[LineFigures]) -> str:
    words = ["share is of self time: timed functions that a line calls are taken out of it"]
    if not any(each.calls for each in figures):
        words = ["line times nest: a line holds what it calls, also where that has rows of its own"]
    compiled = sorted({name for each in figures for name in each.without_lines})
    if compiled:
        words.append("compiled, so without lines: " + ", ".join(compiled[:5]))
    words += sorted({each.gap for each in figures if each.gap})
    return "; ".join(words)
