"""Made-up traces: events as they stand in a Chrome trace, and as columns."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profkit.analyze.operators import all_operator_costs
from profkit.schema.drilldown import Drilldown
from profkit.schema.stage import Stage
from profkit.schema.trace import TraceTable
from profkit.store.chrome_trace import read_trace

HOST, AUTOGRAD = 10, 11
BASE_US = 4453980430237
"""As large as torch's own times are: us since a base that changes every three months."""


def event(
    name: str,
    start_ns: int,
    duration_ns: int,
    cat: str = "cpu_op",
    *,
    pid: int | str = 1,
    tid: int | str = HOST,
    **args: Any,
) -> dict[str, Any]:
    us = f"{BASE_US + start_ns // 1000}.{start_ns % 1000:03d}"
    return {
        "ph": "X",
        "cat": cat,
        "name": name,
        "pid": pid,
        "tid": tid,
        "ts": float(us),
        "dur": duration_ns / 1000,
        **({"args": args} if args else {}),
    }


def mark(name: str, start_ns: int, duration_ns: int, **place: Any) -> dict[str, Any]:
    return event(name, start_ns, duration_ns, "user_annotation", **place)


def write_trace(path: Path, events: list[dict[str, Any]], **head: Any) -> Path:
    path.write_text(json.dumps({**head, "traceEvents": events}))
    return path


def table(directory: Path, events: list[dict[str, Any]]) -> TraceTable:
    return read_trace(write_trace(directory / "made-up.json", events))


def operator_costs(
    trace: TraceTable,
    sources: Mapping[str, Mapping[str, str]] | None,
    stage: Stage,
    top: int = 10,
) -> Drilldown:
    """One stage's."""
    return all_operator_costs(trace, sources, (stage,), top)[0]
