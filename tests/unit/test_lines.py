from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.analyze.lines import BACKWARD_GAP, line_costs, read_figures
from profkit.errors import DataError
from profkit.schema.stage import Stage


def function(
    name: str, first: int, lines: list[tuple[int, int, int]], stage: str | None
) -> dict[str, Any]:
    timed = [
        {"line": line, "hits": hits, "time_ns": time, "text": f"{name} at {line}"}
        for line, hits, time in lines
    ]
    file = "/v/site-packages/lib/data.py"
    return {"name": name, "file": file, "first_line": first, "stage": stage, "lines": timed}


def call(first: int, line: int, callee: int, count: int) -> dict[str, Any]:
    file = "/v/site-packages/lib/data.py"
    return {
        "file": file,
        "first_line": first,
        "line": line,
        "callee_file": file,
        "callee_first_line": callee,
        "count": count,
    }


def document(
    functions: list[dict[str, Any]],
    calls: list[dict[str, Any]] | None = None,
    process: str = "main",
    **more: Any,
) -> dict[str, Any]:
    return {
        "schema": 1,
        "process": process,
        "gap": None,
        "event_ns": 0,
        "functions": functions,
        "calls": calls or [],
        "without_lines": [],
        **more,
    }


def test_costs_are_named_by_source_text_costliest_first() -> None:
    figures = document([function("get", 10, [(11, 5, 30), (12, 5, 70), (13, 0, 0)], "dataloader")])
    drilldown = line_costs([figures], Stage.DATALOADER, 8)
    assert [(c.name, c.source, c.count, c.self_ns, c.share) for c in drilldown.costs] == [
        ("get at 12", "lib/data.py:12", 5, 70, 0.7),
        ("get at 11", "lib/data.py:11", 5, 30, 0.3),
    ]
    assert (drilldown.probe, drilldown.steps) == ("lines", 8)


def test_a_callee_is_taken_out_of_the_line_that_calls_it() -> None:
    get = function("get", 10, [(11, 5, 100), (12, 5, 20)], "dataloader")
    transform = function("transform", 30, [(31, 5, 90)], "dataloader")
    drilldown = line_costs([document([get, transform], [call(10, 11, 30, 5)])], Stage.DATALOADER, 1)
    assert {c.name: (c.self_ns, c.total_ns) for c in drilldown.costs} == {
        "transform at 31": (90, 90),
        "get at 12": (20, 20),
        "get at 11": (10, 100),
    }
    assert sum(c.share for c in drilldown.costs) == pytest.approx(1)


def test_what_tracing_a_callee_costs_is_not_its_callers() -> None:
    get = function("get", 10, [(11, 1, 100)], None)
    called = function("called", 30, [(31, 20, 50)], None)
    figures = document([get, called], [call(10, 11, 30, 1)], event_ns=2)
    costs = {c.name: c.self_ns for c in line_costs([figures], Stage.OTHER, 1).costs}
    assert costs == {"called at 31": 50, "get at 11": 10}


def test_a_callee_of_several_lines_is_divided_by_how_often_each_calls() -> None:
    get = function("get", 10, [(11, 1, 100), (12, 1, 300)], None)
    shared = function("shared", 30, [(31, 4, 360)], None)
    calls = [call(10, 11, 30, 1), call(10, 12, 30, 3)]
    drilldown = line_costs([document([get, shared], calls)], Stage.OTHER, 1)
    assert {c.name: c.self_ns for c in drilldown.costs} == {
        "shared at 31": 360,
        "get at 11": 10,
        "get at 12": 30,
    }


def test_recursion_takes_nothing_away() -> None:
    nested = function("collate", 10, [(11, 9, 100)], "dataloader")
    drilldown = line_costs([document([nested], [call(10, 11, 10, 8)])], Stage.DATALOADER, 1)
    assert drilldown.costs[0].self_ns == 100


@given(
    st.lists(st.integers(0, 10**9), min_size=4, max_size=4),
    st.lists(st.tuples(st.sampled_from([11, 12]), st.integers(1, 9)), max_size=4),
)
def test_self_time_is_within_the_total_and_shares_sum_to_one(
    times: list[int], callers: list[tuple[int, int]]
) -> None:
    get = function("get", 10, [(11, 1, times[0]), (12, 1, times[1])], None)
    called = function("called", 30, [(31, 1, times[2]), (32, 1, times[3])], None)
    calls = [call(10, line, 30, count) for line, count in callers]
    costs = line_costs([document([get, called], calls)], Stage.OTHER, 1).costs
    assert all(0 < (c.self_ns or 0) <= (c.total_ns or 0) for c in costs)
    assert sum(c.share for c in costs) == (pytest.approx(1) if costs else 0)


def test_workers_are_merged_and_kept_apart_from_the_main_process() -> None:
    lines = [(11, 5, 30)]
    worker = document([function("get", 10, lines, "dataloader")], process="worker")
    main = document([function("get", 10, lines, "dataloader")])
    drilldown = line_costs([worker, main, worker], Stage.DATALOADER, 1)
    assert [(c.context, c.count, c.self_ns) for c in drilldown.costs] == [
        ("worker", 10, 60),
        (None, 5, 30),
    ]


def test_only_the_functions_of_the_stage_are_shown() -> None:
    figures = document(
        [
            function("forward", 10, [(11, 1, 30)], "forward"),
            function("step", 20, [(21, 1, 90)], "optimizer"),
        ]
    )
    assert [c.name for c in line_costs([figures], Stage.FORWARD, 1).costs] == ["forward at 11"]


def test_top_limits_the_rows_and_leaves_shares_alone() -> None:
    figures = document([function("f", 10, [(line, 1, 25) for line in range(11, 15)], None)])
    assert [c.share for c in line_costs([figures], Stage.OTHER, 1, top=2).costs] == [0.25, 0.25]


def test_nesting_is_said_where_calls_are_not_known() -> None:
    figures = document([function("f", 10, [(11, 1, 30)], None)])
    assert "nest" in (line_costs([figures], Stage.OTHER, 1).note or "")


def test_gaps_say_why_there_are_no_lines() -> None:
    assert line_costs([], Stage.BACKWARD, 1).gap == BACKWARD_GAP
    assert line_costs([], Stage.TRANSFER, 1).gap == "no Python function of this stage was timed"
    compiled = document([], without_lines=["torch.relu"])
    assert "torch.relu" in (line_costs([compiled], Stage.FORWARD, 1).gap or "")
    failed = document([], gap="a worker could not time lines: no", process="worker")
    assert line_costs([failed], Stage.DATALOADER, 1).gap == "a worker could not time lines: no"


@pytest.mark.parametrize("foreign", [[], {"schema": 1}, "x", document([], schema=2)])
def test_foreign_documents_are_refused(foreign: object) -> None:
    with pytest.raises(DataError, match="line times"):
        read_figures(foreign)
