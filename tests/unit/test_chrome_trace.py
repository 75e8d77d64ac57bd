import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from profkit.errors import InputError, OutputError, RunError
from profkit.store.chrome_trace import (
    read_operator_sources,
    read_trace,
    slim_for_tensorboard,
)
from traces import BASE_US, event, mark, table, write_trace

LOADER = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
SHOWN_WAIT = "enumerate(DataLoader)#profkit.__next__"


def slim(tmp_path: Path, events: list[dict[str, Any]], **head: Any) -> dict[str, Any]:
    full = write_trace(tmp_path / "trace.json", events, **head)
    out = tmp_path / "copy" / "profkit.pt.trace.json"
    slim_for_tensorboard(full, out)
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def categories(trace: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["name"], each["cat"]) for each in trace["traceEvents"]]


def test_times_keep_their_nanoseconds(tmp_path: Path) -> None:
    events = [event("a", at, 1) for at in range(0, 3000, 7)]
    trace = table(tmp_path, events)
    assert (trace.start_ns - BASE_US * 1000).tolist() == list(range(0, 3000, 7))
    assert set(trace.duration_ns.tolist()) == {1}


def test_columns_hold_what_the_events_say(tmp_path: Path) -> None:
    stack = "mnist.py(131): __getitem__;train.py(3): main;"
    events = [
        event("aten::mul", 0, 5, **{"Call stack": stack, "Ev Idx": 1}),
        event("kernel", 1, 2, "kernel", pid=0, tid=7),
        {"ph": "i", "name": "instant", "ts": 1.0, "pid": 1, "tid": 1, "s": "g"},
        event("PyTorch Profiler (0)", 0, 9, "Trace", pid="Spans", tid="PyTorch Profiler"),
        {"ph": "M", "name": "process_name", "ts": 0.5, "pid": 1, "tid": 0, "args": {"name": "p"}},
    ]
    trace = table(tmp_path, events)
    assert [trace.names[code] for code in trace.name] == ["aten::mul", "kernel"]
    assert [trace.categories[code] for code in trace.category] == ["cpu_op", "kernel"]
    assert trace.process.tolist() == [1, 0]
    assert trace.thread.tolist() == [10, 7]
    assert trace.stacks[trace.stack[0]] == stack
    assert trace.stack[1] == -1


def test_an_empty_trace_is_a_trace(tmp_path: Path) -> None:
    trace = table(tmp_path, [])
    assert len(trace) == 0
    assert not trace.has_category("cpu_op").size


def test_a_compressed_trace_reads_the_same(tmp_path: Path) -> None:
    plain = write_trace(tmp_path / "trace.json", [event("a", 0, 5)])
    packed = tmp_path / "trace.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_trace(packed).start_ns.tolist() == read_trace(plain).start_ns.tolist()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.json", None, "cannot read the trace none.json"),
        ("cut.json", b'{"traceEvents": [{"ph": "X", "na', "cut short"),
        ("cut.json.gz", gzip.compress(b'{"traceEvents": []}' * 99, mtime=0)[:-20], "cut short"),
        ("no.json.gz", b"plain text", "cannot read the trace no.json.gz"),
        ("other.json", b'{"steps": []}', "not a trace that torch.profiler wrote"),
        ("list.json", b"[1, 2]", "not a trace that torch.profiler wrote"),
        ("kinds.json", b'{"traceEvents": [{"ts": "x"}]}', "not a trace that torch.profiler wrote"),
    ],
)
def test_what_is_no_trace_is_said_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=words) as caught:
        read_trace(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_only_loader_and_optimizer_ranges_become_operators(tmp_path: Path) -> None:
    events = [
        mark("ProfilerStep#3", 0, 1000),
        mark(LOADER, 10, 100),
        mark("profkit:forward", 200, 100),
        mark("my own range", 210, 20),
        event("aten::mm", 220, 10),
        mark("Optimizer.step#Adam.step", 400, 50),
    ]
    assert categories(slim(tmp_path, events)) == [
        ("ProfilerStep#3", "user_annotation"),
        (LOADER, "cpu_op"),
        ("profkit:forward", "user_annotation"),
        ("my own range", "user_annotation"),
        ("aten::mm", "cpu_op"),
        ("Optimizer.step#Adam.step", "cpu_op"),
    ]


def test_the_data_wait_of_any_source_is_shown_as_a_loader(tmp_path: Path) -> None:
    events = [mark("ProfilerStep#0", 0, 1000), mark("profkit:dataloader", 0, 100)]
    assert categories(slim(tmp_path, events))[1] == (SHOWN_WAIT, "cpu_op")


def test_only_the_host_work_within_the_data_wait_is_dropped(tmp_path: Path) -> None:
    flow = {"ph": "s", "id": 4, "pid": 1, "tid": 10, "cat": "fwdbwd", "name": "fwdbwd"}
    events = [
        mark("ProfilerStep#0", 0, 1000),
        mark("profkit:dataloader", 0, 100),
        mark(LOADER, 10, 80),
        event("aten::dropped", 20, 10),
        event("dropped python", 20, 40, "python_function"),
        {**flow, "ts": BASE_US + 0.02},
        event("after the wait", 95, 10),
        event("another thread", 20, 10, tid=11),
        event("cudaMemcpyAsync", 20, 10, "cuda_runtime"),
        event("Memcpy HtoD", 20, 10, "gpu_memcpy", pid=0, tid=7),
        event("beyond", 100, 10),
    ]
    kept = [name for name, _ in categories(slim(tmp_path, events))]
    assert kept == [
        "ProfilerStep#0",
        SHOWN_WAIT,
        LOADER,
        "after the wait",
        "another thread",
        "cudaMemcpyAsync",
        "Memcpy HtoD",
        "beyond",
    ]


def test_a_request_without_a_batch_is_no_step(tmp_path: Path) -> None:
    events = [
        mark("ProfilerStep#0", 0, 100),
        mark("profkit:dataloader", 0, 10),
        mark("ProfilerStep#1", 200, 50),
        mark("profkit:dataloader", 200, 45),
        mark("profkit:loader_end", 240, 1),
        mark("ProfilerStep#1", 300, 50),
    ]
    kept = [each["ts"] - BASE_US for each in slim(tmp_path, events)["traceEvents"]]
    assert kept == pytest.approx([0, 0, 0.3], abs=1e-3)


def test_copies_of_ranges_on_the_device_are_dropped(tmp_path: Path) -> None:
    # The plugin would take the second one for a step more.
    events = [
        mark("ProfilerStep#0", 0, 1000),
        event("ProfilerStep#0", 20, 900, "gpu_user_annotation", pid=0, tid=7),
    ]
    assert len(slim(tmp_path, events)["traceEvents"]) == 1


def test_the_copy_names_no_machine_and_nothing_else_is_lost(tmp_path: Path) -> None:
    head = {
        "schemaVersion": 1,
        "host_name": "secret-host",
        "traceName": "/home/me/trace.json",
        "deviceProperties": [{"id": 0, "name": "GPU"}],
        "baseTimeNanoseconds": 1790857026000000000,
    }
    events = [
        {"ph": "M", "name": "process_name", "ts": 1.5, "pid": 1, "tid": 0, "args": {"name": "p"}},
        {"ph": "f", "id": 5, "pid": 1, "tid": 10, "ts": 2.25, "cat": "ac2g", "name": "", "bp": "e"},
        {"ph": "i", "name": "Record Window End", "pid": "", "tid": "", "ts": 3.5, "s": "g"},
        event("aten::mm", 0, 10, **{"External id": 7, "Input Dims": [[1, 2]]}),
    ]
    copy = slim(tmp_path, events, **head)
    del head["host_name"], head["traceName"]
    assert copy.pop("traceEvents") == events
    assert copy == head


def test_the_same_trace_gives_the_same_bytes_and_stays_as_it_is(tmp_path: Path) -> None:
    full = write_trace(tmp_path / "trace.json", [mark(LOADER, 0, 10), event("a", 1, 2)])
    before = full.read_bytes()
    copies = [tmp_path / f"{name}.pt.trace.json" for name in "ab"]
    for out in copies:
        slim_for_tensorboard(full, out)
    assert copies[0].read_bytes() == copies[1].read_bytes()
    assert full.read_bytes() == before


def test_a_copy_that_tensorboard_would_not_find_is_refused(tmp_path: Path) -> None:
    full = write_trace(tmp_path / "trace.json", [])
    with pytest.raises(InputError, match=r"pt\.trace\.json"):
        slim_for_tensorboard(full, tmp_path / "copy.json")


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    full = write_trace(tmp_path / "trace.json", [])
    with pytest.raises(OutputError, match="cannot write"):
        slim_for_tensorboard(full, full / "copy.pt.trace.json")


def test_sources_read_back_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "operator_sources.json"
    path.write_text('{"forward": {"aten::mm": "train.py:3"}}')
    assert read_operator_sources(path) == {"forward": {"aten::mm": "train.py:3"}}
    path.write_text('{"forward": 3}')
    with pytest.raises(RunError, match=r"operator_sources\.json"):
        read_operator_sources(path)
    with pytest.raises(RunError, match=r"gone\.json"):
        read_operator_sources(tmp_path / "gone.json")
