"""Stack samples to costly places: gives each sample of py-spy to a stage.

Sampling counts threads, not time: at every tick each thread of each process gives one sample,
so only the thread that runs the loop, and the workers that feed it, are looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from ..schema.drilldown import Cost, Drilldown
from ..schema.stage import STAGES, Stage
from .places import Origin, origin, short_place
from .stack_rows import Frame, StackRow, Stacks, parse_stacks

STAGE_FRAME = "profkit_stage_"
"""Functions named so, plus the stage, are what `StageClock.call` leaves on the stack."""
_STAGE_OF_FRAME = {STAGE_FRAME + stage.value: stage for stage in STAGES}
REQUEST_FRAMES = frozenset({"_iterate_outermost", "_iterate_within"})
"""Functions of `probe.marks` that run while the loop asks for its next batch."""
BETWEEN_STEPS = frozenset(
    {"flush", "partition", "batch_sizer", "tick", "ask", "got", "got_none", "optimized", "release"}
)
"""Functions of profkit that run between two steps, or beside what they time."""
_WORKER = "_worker_loop"

# Python functions that only hand on to the next one.
_PLUMBING = {
    ("torch/nn/modules/module.py", "_wrapped_call_impl"),
    ("torch/nn/modules/module.py", "_call_impl"),
    ("torch/utils/_contextlib.py", "decorate_context"),
    ("torch/optim/optimizer.py", "wrapper"),
    ("torch/optim/optimizer.py", "_use_grad"),
    ("torch/optim/optimizer.py", "maybe_fallback"),
}
_LOADER = ("torch/utils/data/dataloader.py", "torch/utils/data/_utils/")
_WAITS = frozenset({"poll", "_poll", "wait", "select", "acquire", "_wait_for_tstate_lock"})
_CALLERS = 3


@dataclass(frozen=True, slots=True)
class StagedRow:
    """Samples given to a stage.

    Attributes:
        frames: outermost first; the call site of the stage, then what ran inside it.
        worker: taken in a loader worker.
        waiting: the loop was blocked until a loader worker delivers.
        count: samples.
    """

    stage: Stage
    frames: tuple[Frame, ...]
    worker: bool
    waiting: bool
    count: int


@dataclass(frozen=True, slots=True)
class Staged:
    """Attributed samples, and how many were left out, by reason in words."""

    rows: tuple[StagedRow, ...]
    left_out: dict[str, int]


def attribute(stacks: Stacks) -> Staged:
    """Give samples to stages.

    The loop's thread counts for its innermost stage or request frame, and for `other` where it
    has none. Loader workers count for `dataloader` unless they wait to be asked. Every other
    thread and process is left out, and so is what profkit does between two steps.
    """
    loop = _loop_thread(stacks.rows)
    staged: list[StagedRow] = []
    left_out: Counter[str] = Counter()
    for row in stacks.rows:
        if not row.frames:
            found: StagedRow | str = "interpreters at their start"
        elif len(row.processes) > 1:
            found = _in_worker(row)
        elif (row.processes, row.thread) == loop:
            found = stage_row(row)
        else:
            found = "other threads"
        if isinstance(found, str):
            left_out[found] += row.count
        else:
            staged.append(found)
    return Staged(tuple(staged), dict(left_out))


def stage_samples(staged: Staged) -> dict[Stage, int]:
    """Samples of the loop's own thread in each stage: its shares are those of the host's time."""
    counts = dict.fromkeys(STAGES, 0)
    for row in staged.rows:
        if not row.worker:
            counts[row.stage] += row.count
    return counts


def stack_costs(stacks: str | Stacks, stage: Stage, steps: int, top: int = 10) -> Drilldown:
    """The costliest stacks of a stage.

    One row is one function that was running, together with the line of the project's code that
    led to it. Neither whole stacks nor bare functions read well: whole stacks differ in a line
    number somewhere inside a library and give ten rows for one cause; a bare function
    (`Linear.forward`) does not say which of your lines pays for it. So frames between the two
    are merged, a function's own lines too (its most sampled line is shown), and a run of
    standard-library frames at the end counts for the function that was called from outside.

    Args:
        stacks: text of py-spy's raw format, or its rows.
        stage: the stage looked at.
        steps: steps that were sampled, as told by the caller.
        top: most rows given.

    Returns:
        Costs by samples, `self_ns` and `total_ns` None. `share` is the part of the samples of
        threads at work on the stage: the loop's thread, and the workers for `dataloader`. The
        loop's waiting for its workers is not among them (it says nothing about the cause) as
        long as the workers were seen; the note counts it.
    """
    parsed = parse_stacks(stacks) if isinstance(stacks, str) else stacks
    staged = attribute(parsed)
    rows = [row for row in staged.rows if row.stage is stage]
    waited = sum(row.count for row in rows if row.waiting)
    workers_seen = any(row.worker for row in rows)
    notes = []
    if waited and workers_seen:
        rows = [row for row in rows if not row.waiting]
        notes.append(
            f"in {waited} further samples the loop waited for its workers; "
            "the rows say what the threads at work were doing"
        )
    elif waited:
        notes.append("the loader's workers were not seen, only the wait for them")
    if stage is Stage.OTHER:
        notes.append("holds all that is outside the marked stages, also between steps")
    if parsed.foreign:
        notes.append(f"{parsed.foreign} unreadable records were skipped")
    costs = _merge(rows)[:top]
    return Drilldown(
        "stacks",
        stage,
        steps,
        tuple(costs),
        gap=None if costs else "no sample fell into this stage",
        note="; ".join(notes) or None,
    )


def _loop_thread(rows: Iterable[StackRow]) -> tuple[tuple[int, ...], str] | None:
    """The thread of the main process that iterates the steps: the one most in marked stages."""
    marked: Counter[tuple[tuple[int, ...], str]] = Counter()
    for row in rows:
        if len(row.processes) == 1:
            # A main thread without any mark is still the best guess there is.
            is_marked = _marked_frame(row.frames) is not None
            fallback = 1 if row.thread == "MainThread" else 0
            marked[(row.processes, row.thread)] += 2 * row.count if is_marked else fallback
    best = marked.most_common(1)
    return best[0][0] if best and best[0][1] else None


def _marked_frame(frames: tuple[Frame, ...]) -> tuple[int, Stage] | None:
    """Index and stage of the innermost frame that tells the stage."""
    for index in range(len(frames) - 1, -1, -1):
        name = frames[index].short_name
        if name in _STAGE_OF_FRAME:
            return index, _STAGE_OF_FRAME[name]
        if name in REQUEST_FRAMES and origin(frames[index].file) is Origin.PROFKIT:
            return index, Stage.DATALOADER
    return None


def stage_row(row: StackRow) -> StagedRow | str:
    """A sample of the loop's thread given to its stage, or in words why it belongs to none."""
    marked = _marked_frame(row.frames)
    if marked is None:
        return StagedRow(Stage.OTHER, row.frames, False, False, row.count)
    index, stage = marked
    inside = row.frames[index + 1 :]
    first = inside[0] if inside else None
    if first and first.short_name in BETWEEN_STEPS and origin(first.file) is Origin.PROFKIT:
        return "profkit between steps"
    # The last request of all finds the loader at its end: it belongs to no step.
    if stage is Stage.DATALOADER and any(f.short_name == "_shutdown_workers" for f in inside):
        return "end of the loader's workers"
    above = [frame for frame in row.frames[:index] if origin(frame.file) is Origin.PROJECT]
    frames = (*above[-1:], *inside) or row.frames[index : index + 1]
    return StagedRow(stage, frames, False, _waits_for_worker(inside), row.count)


def _in_worker(row: StackRow) -> StagedRow | str:
    names = [frame.short_name for frame in row.frames]
    if _WORKER not in names:
        return "other processes and threads of workers"
    start = names.index(_WORKER)
    inside = row.frames[start + 1 :]
    if inside and inside[0].short_name == "get" and inside[0].file.endswith("queues.py"):
        return "workers waiting to be asked"
    return StagedRow(Stage.DATALOADER, inside or row.frames[start:], True, False, row.count)


def _waits_for_worker(inside: tuple[Frame, ...]) -> bool:
    names = [frame.short_name for frame in inside]
    if "_try_get_data" not in names:
        return False
    # Past the queue's get there is either the wait for a message or the unpickling of one.
    below = names[names.index("_try_get_data") + 1 :]
    return below[:1] == ["get"] and len(below) > 1 and below[1] in _WAITS


def _merge(rows: list[StagedRow]) -> list[Cost]:
    groups: defaultdict[tuple[object, ...], list[tuple[int, StagedRow]]] = defaultdict(list)
    for row in rows:
        at = _leaf(row.frames)
        leaf = row.frames[at]
        site = next((f for f in reversed(row.frames[:at]) if is_project(f)), None)
        groups[(row.worker, leaf.function, leaf.file, site)].append((at, row))
    total = sum(row.count for row in rows)
    costs = []
    for group in groups.values():
        lines: Counter[int] = Counter()
        paths: Counter[tuple[Frame, ...]] = Counter()
        for at, row in group:
            lines[row.frames[at].line] += row.count
            paths[_callers(row.frames[:at])] += row.count
        at, row = group[0]
        leaf, count = row.frames[at], sum(lines.values())
        source = short_place(leaf.file, lines.most_common(1)[0][0])
        words = ["worker"] if row.worker else []
        if path := paths.most_common(1)[0][0]:
            words.append("from " + " < ".join(_describe(frame) for frame in path))
        context = ", ".join(words) or None
        costs.append(Cost(plain_name(leaf), source, None, None, count, count / total, context))
    return sorted(costs, key=lambda cost: (-cost.count, cost.name, cost.source or ""))


def _leaf(frames: tuple[Frame, ...]) -> int:
    """Index of the innermost frame that a reader would name."""
    last = len(frames) - 1
    while last > 0 and (is_plumbing(frames[last]) or origin(frames[last].file) is Origin.PROFKIT):
        last -= 1
    # json, re or copy spread over their own internals; what counts is what was asked of them.
    while last > 0 and _is_inner(frames[last]) and _is_inner(frames[last - 1]):
        last -= 1
    return last


def _callers(above: tuple[Frame, ...]) -> tuple[Frame, ...]:
    """The innermost few frames worth naming, innermost first; the project's own never missing."""
    named = [f for f in reversed(above) if not (_is_inner(f) or is_plumbing(f) or _is_loader(f))]
    named = [f for f in named if origin(f.file) is not Origin.PROFKIT]
    few = named[:_CALLERS]
    site = next((frame for frame in named if is_project(frame)), None)
    if site is not None and site not in few:
        few[-1] = site
    return tuple(few)


def is_project(frame: Frame) -> bool:
    """Whether a frame runs the user's own code."""
    return origin(frame.file) is Origin.PROJECT


def _is_inner(frame: Frame) -> bool:
    return origin(frame.file) in (Origin.STDLIB, Origin.GENERATED)


def is_plumbing(frame: Frame) -> bool:
    """Whether a frame only hands on to the next one."""
    return (short_place(frame.file, None), frame.short_name) in _PLUMBING


def _is_loader(frame: Frame) -> bool:
    return short_place(frame.file, None).startswith(_LOADER)


def plain_name(frame: Frame) -> str:
    """Its function as a reader knows it."""
    return frame.function.replace("<locals>.", "")


def _describe(frame: Frame) -> str:
    return f"{plain_name(frame)} ({short_place(frame.file, frame.line)})"
