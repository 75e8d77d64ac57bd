"""The costliest places of the stage `other`, from stack samples of the light pass.

What no stage claims has no mark, so only the stacks tell what it is. A place is a function of
the project's own code: what a reader can change.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ..schema.drilldown import Cost, Drilldown
from ..schema.samples import SampleWindow
from ..schema.stage import Stage
from .places import Origin, origin, short_place
from .stack_rows import Frame, StackRow, parse_stacks
from .stacks import BETWEEN_STEPS, is_plumbing, is_project, plain_name, stage_row

PROBE = "samples"
NO_THREAD = "the stack samples hold none of the training thread"
NOTHING = "no sample fell outside of the stages"
_BOOTSTRAPS = ("runpy.py", "threading.py")
_ALSO_SHARE = 0.2
"""Part of a place's samples from which another of its lines is told as well."""

_Place = tuple[int, tuple[Frame, ...]]
"""Index of a stack's frame, and the stack, outermost first."""


def other_places(windows: Sequence[SampleWindow], steps: int, top: int = 10) -> Drilldown:
    """The functions of the project in which the training thread was, outside of the stages.

    A sample counts for the innermost frame of the project's own code; where all of the stack is
    a library's, for the outermost one. The lines of a function are merged, and the most sampled
    one is shown.

    Args:
        windows: the samples, and which thread trained meanwhile.
        steps: steps that the windows disturbed, as told by the caller.
        top: most places given.

    Returns:
        Costs by samples; `share` is the part of the samples in `other`, `context` what was being
        called there. Calls of functions written in C leave no frame, so they are not named.
    """
    rows: list[StackRow] = []
    foreign = 0
    for window in windows:
        stacks = parse_stacks(window.text)
        foreign += stacks.foreign
        rows += (row for row in stacks.rows if _is_trained_in(row, window))
    counts: Counter[_Place] = Counter()
    for row in rows:
        if place := _place(row):
            counts[place] += row.count
    gap = None
    if not counts:
        gap = NOTHING if rows else NO_THREAD
    notes = ["what runs between epochs is among them: a stack does not tell it apart"]
    if any(window.source == "thread" for window in windows):
        notes.append("taken by a thread of the process")
    if foreign:
        notes.append(f"{foreign} unreadable records were skipped")
    note = "; ".join(notes)
    return Drilldown(PROBE, Stage.OTHER, steps, tuple(_merge(counts)[:top]), gap, note)


def _is_trained_in(row: StackRow, window: SampleWindow) -> bool:
    return row.thread_id in (window.native_id, window.ident) and bool(row.frames)


def _place(row: StackRow) -> _Place | None:
    """Where a sample of the training thread counts; None inside a stage or profkit itself."""
    staged = stage_row(row)
    if isinstance(staged, str) or staged.stage is not Stage.OTHER:
        return None
    frames = staged.frames
    at = next((i for i in range(len(frames) - 1, -1, -1) if is_project(frames[i])), None)
    inside = frames if at is None else frames[at + 1 :]
    if _is_profkits(inside):
        return None
    if at is None:
        known = (i for i, frame in enumerate(frames) if _is_known(frame))
        at = next(known, 0)
    return at, frames


def _is_profkits(inside: Iterable[Frame]) -> bool:
    """Whether profkit itself was at work, and not what it was asked to call."""
    last: Frame | None = None
    for last in inside:
        if last.short_name in BETWEEN_STEPS and origin(last.file) is Origin.PROFKIT:
            return True
    return last is not None and origin(last.file) is Origin.PROFKIT


def _is_known(frame: Frame) -> bool:
    """Whether a frame of a library is more than the way to it."""
    if origin(frame.file) in (Origin.PROFKIT, Origin.GENERATED):
        return False
    return short_place(frame.file, None) not in _BOOTSTRAPS


def _merge(counts: Counter[_Place]) -> list[Cost]:
    groups: defaultdict[tuple[str, str], Counter[_Place]] = defaultdict(Counter)
    for place, count in counts.items():
        frame = place[1][place[0]]
        groups[(frame.function, frame.file)][place] += count
    total = counts.total()
    costs = []
    for group in groups.values():
        lines: Counter[int] = Counter()
        called: Counter[str] = Counter()
        for (at, frames), count in group.items():
            lines[frames[at].line] += count
            called[_called(frames[at + 1 :])] += count
        count = lines.total()
        at, frames = next(iter(group))
        ranked = sorted(lines.items(), key=lambda one: (-one[1], one[0]))
        also = [str(line) for line, part in ranked[1:3] if part >= _ALSO_SHARE * count]
        words = [f"in {name}" for name, _ in called.most_common(1) if name]
        words += [f"also line {' and '.join(also)}"] if also else []
        costs.append(
            Cost(
                name=plain_name(frames[at]),
                source=short_place(frames[at].file, ranked[0][0]),
                self_ns=None,
                total_ns=None,
                count=count,
                share=count / total,
                context=", ".join(words) or None,
            )
        )
    return sorted(costs, key=lambda cost: (-cost.count, cost.name, cost.source or ""))


def _called(inside: Sequence[Frame]) -> str:
    """What the project's code had called, as far as it is Python; empty if nothing."""
    for frame in inside:
        if not is_plumbing(frame) and origin(frame.file) in (Origin.PACKAGE, Origin.STDLIB):
            return plain_name(frame)
    return ""
