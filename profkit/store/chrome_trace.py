"""Chrome traces: read into columns, and repaired and slimmed for TensorBoard."""

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from ..errors import InputError, OutputError, RunError
from ..schema.stage import Stage
from ..schema.steps import BoolArray, Int64Array
from ..schema.trace import (
    ANNOTATION,
    LOADER_END,
    LOADER_PREFIX,
    OPERATOR,
    STEP_PREFIX,
    TraceTable,
    stage_range,
)

FULL_TRACE = "trace.json.gz"
"""The trace as torch wrote it: a name that torch-tb-profiler does not pick up."""
TENSORBOARD_SUFFIX = ".pt.trace.json"
"""What torch-tb-profiler looks for."""
OPERATOR_SOURCES = "operator_sources.json"

_DATA_WAIT = stage_range(Stage.DATALOADER)
_DATA_WAIT_FOR_TENSORBOARD = LOADER_PREFIX + "profkit.__next__"
_OPTIMIZER_PREFIX = "Optimizer."
_DEVICE_ANNOTATION = "gpu_user_annotation"
_HOST_DETAIL = (OPERATOR, ANNOTATION, "python_function", "cpu_instant_event", "fwdbwd")
_ABSENT = msgspec.Raw(b"null")

_Kind = TypeVar("_Kind", bound=msgspec.Struct)


class _Arguments(msgspec.Struct, gc=False, rename={"call_stack": "Call stack"}):
    call_stack: str | None = None


class _Event(msgspec.Struct, gc=False):
    ph: str = ""
    name: str = ""
    cat: str = ""
    pid: int | str = 0
    tid: int | str = 0
    ts: float = 0.0
    dur: float = 0.0
    args: _Arguments | None = None


class _Trace(msgspec.Struct, gc=False):
    trace_events: list[_Event] = msgspec.field(name="traceEvents")


class _WholeEvent(msgspec.Struct, gc=False, omit_defaults=True):
    """Every field that an event may have, so that it can be written again."""

    name: str
    """Always there, and always written: the plugin fails on an event without."""
    ph: str = ""
    cat: str | None = None
    pid: int | str | None = None
    tid: int | str | None = None
    ts: float | None = None
    dur: float | None = None
    id: int | str | None = None
    bp: str | None = None
    s: str | None = None
    args: msgspec.Raw = _ABSENT


class _WholeTrace(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """What TensorBoard's copy carries over: neither the host's name nor a path."""

    trace_events: list[_WholeEvent]
    schema_version: msgspec.Raw = _ABSENT
    device_properties: msgspec.Raw = _ABSENT
    distributed_info: msgspec.Raw = _ABSENT
    display_time_unit: msgspec.Raw = _ABSENT
    base_time_nanoseconds: msgspec.Raw = _ABSENT


def read_trace(path: Path) -> TraceTable:
    """The complete events of a Chrome trace, `.json` or `.json.gz`.

    Times keep their nanoseconds. Events that lie on no thread (the trace's own spans) are
    left out.

    Raises:
        RunError: no such file, not a Chrome trace, or cut short.
    """
    trace = _decoded(path, _Trace)
    events = [
        event
        for event in trace.trace_events
        if event.ph == "X" and isinstance(event.pid, int) and isinstance(event.tid, int)
    ]
    names, name = _coded(event.name for event in events)
    categories, category = _coded(event.cat for event in events)
    texts = [event.args.call_stack if event.args else None for event in events]
    stacks, of_stack = _coded(text for text in texts if text is not None)
    stack = np.full(len(events), -1, np.int64)
    stack[[text is not None for text in texts]] = of_stack
    return TraceTable(
        names=names,
        name=name,
        categories=categories,
        category=category,
        start_ns=_nanoseconds([event.ts for event in events]),
        duration_ns=_nanoseconds([event.dur for event in events]),
        process=np.array([event.pid for event in events], np.int64),
        thread=np.array([event.tid for event in events], np.int64),
        stacks=stacks,
        stack=stack,
    )


def read_operator_sources(path: Path) -> dict[str, dict[str, str]]:
    """Where operators are called from: stage → operator → `file:line`.

    Raises:
        RunError: no such file, or not one of profkit's.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, str]])
    except (OSError, msgspec.DecodeError) as error:
        raise RunError(f"cannot read {path.name}: {_one_line(error)}") from None


def slim_for_tensorboard(full: Path, out: Path) -> None:
    """Write a copy of a trace that torch-tb-profiler shows rightly and quickly.

    The plugin counts data loading from `cpu_op` ranges only, while torch has been writing
    `user_annotation` ones since 2022, so it shows 0. In the copy

    - torch's loader ranges and its `Optimizer.` ranges are `cpu_op`;
    - profkit's data wait appears as a loader range too: for torch's DataLoader it covers what
      lies around torch's own range, for any other source it is the only one;
    - the host's operators within the data wait are gone: thousands, and never looked at there;
    - a step range whose request gave no batch is gone, and so are the copies of the ranges on
      the device's own timeline: the plugin would count both as steps;
    - the name of the machine and the path of the trace are gone.

    The same input gives the same bytes. `full` is not touched.

    Args:
        full: Chrome trace as `torch.profiler` wrote it, `.json` or `.json.gz`.
        out: the copy; its name must end in `.pt.trace.json`.

    Raises:
        InputError: `out` has another name.
        RunError: `full` cannot be read.
        OutputError: `out` cannot be written.
    Source: torch-tb-profiler 0.4.3, profiler/event_parser.py and overall_parser.py.
    """
    if not out.name.endswith(TENSORBOARD_SUFFIX):
        raise InputError(f"{out.name}: TensorBoard needs a name that ends in {TENSORBOARD_SUFFIX}")
    trace = _decoded(full, _WholeTrace)
    events = trace.trace_events
    keep = _kept_for_tensorboard(events)
    trace.trace_events = [
        _repaired(event) for event, kept in zip(events, keep.tolist(), strict=True) if kept
    ]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(msgspec.json.encode(trace))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None


def _kept_for_tensorboard(events: list[_WholeEvent]) -> BoolArray:
    """(n,) bool, which events the slim copy holds."""
    keep = np.ones(len(events), np.bool_)
    places: dict[tuple[int | str | None, int | str | None], int] = {}
    place = np.array([places.setdefault((e.pid, e.tid), len(places)) for e in events], np.int64)
    start = _nanoseconds([event.ts or 0.0 for event in events])
    end = start + _nanoseconds([event.dur or 0.0 for event in events])
    waits = np.array([_is_wait(event) for event in events], np.bool_)
    own_waits = np.array([event.name == _DATA_WAIT for event in events], np.bool_)
    steps = np.array([e.ph == "X" and e.name.startswith(STEP_PREFIX) for e in events], np.bool_)
    detail = np.array([e.cat in _HOST_DETAIL for e in events], np.bool_) & ~waits & ~steps
    ended = np.array([event.name == LOADER_END for event in events], np.bool_)
    for where in np.unique(place[waits | steps]):
        here = place == where
        inside = _is_inside(start, end, start[here & waits], end[here & waits])
        keep &= ~(here & detail & inside)
        for moment in start[here & ended]:
            holds = (start <= moment) & (moment < end)
            keep &= ~(here & (steps | own_waits) & holds)
    device_copies = [event.cat == _DEVICE_ANNOTATION for event in events]
    return keep & ~ended & ~np.array(device_copies, np.bool_)


def _is_wait(event: _WholeEvent) -> bool:
    return (
        event.ph == "X"
        and event.cat in (ANNOTATION, OPERATOR)
        and (event.name == _DATA_WAIT or event.name.startswith(LOADER_PREFIX))
    )


def _repaired(event: _WholeEvent) -> _WholeEvent:
    if event.cat == ANNOTATION and event.ph == "X":
        if event.name == _DATA_WAIT:
            event.name = _DATA_WAIT_FOR_TENSORBOARD
            event.cat = OPERATOR
        elif event.name.startswith((LOADER_PREFIX, _OPTIMIZER_PREFIX)):
            event.cat = OPERATOR
    return event


def _is_inside(
    start: Int64Array, end: Int64Array, from_ns: Int64Array, to_ns: Int64Array
) -> BoolArray:
    """(n,) bool, whether [start, end) lies in one of the spans; the spans may nest."""
    if not from_ns.size:
        return np.zeros(start.shape, np.bool_)
    order = np.argsort(from_ns, kind="stable")
    starts, reach = from_ns[order], np.maximum.accumulate(to_ns[order])
    last = np.searchsorted(starts, start, "right") - 1
    return (last >= 0) & (end <= reach[np.maximum(last, 0)])


def _decoded(path: Path, kind: type[_Kind]) -> _Kind:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return msgspec.json.decode(content, type=kind)
    except OSError as error:
        raise RunError(f"cannot read the trace {path.name}: {_one_line(error)}") from None
    except (EOFError, zlib.error):
        raise RunError(f"the trace {path.name} is cut short: trace again") from None
    except msgspec.ValidationError as error:
        raise RunError(
            f"{path.name} is not a trace that torch.profiler wrote: {_one_line(error)}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"the trace {path.name} is cut short or not JSON ({_one_line(error)}): trace again"
        ) from None


def _one_line(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _coded(texts: Iterable[str]) -> tuple[tuple[str, ...], Int64Array]:
    """Each text once, in order of appearance, and the index of every one."""
    index: dict[str, int] = {}
    codes = [index.setdefault(text, len(index)) for text in texts]
    return tuple(index), np.array(codes, np.int64)


def _nanoseconds(microseconds: list[float]) -> Int64Array:
    """(n,) int64 ns of times in us; split, since 4e12 us times 1000 would round to 2 ns."""
    times = np.array(microseconds, np.float64)
    whole = np.floor(times)
    return whole.astype(np.int64) * 1000 + np.rint((times - whole) * 1000).astype(np.int64)
