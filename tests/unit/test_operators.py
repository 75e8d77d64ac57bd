from pathlib import Path
from typing import Any

import pytest

from profkit.analyze.operators import (
    OUTSIDE_OPERATORS,
    all_operator_costs,
    device_idle_in_wait_share,
)
from profkit.schema.drilldown import Cost
from profkit.schema.stage import STAGES, Stage
from traces import AUTOGRAD, event, mark, operator_costs, table

STEP = mark("ProfilerStep#4", 0, 1000)
FORWARD = mark("profkit:forward", 100, 400)


def costs(
    tmp_path: Path, events: list[dict[str, Any]], stage: Stage = Stage.FORWARD, **options: Any
) -> dict[str, Cost]:
    drilldown = operator_costs(
        table(tmp_path, events), options.pop("sources", None), stage, **options
    )
    assert drilldown.gap is None
    return {cost.name: cost for cost in drilldown.costs}


def test_self_and_total_time_follow_the_nesting(tmp_path: Path) -> None:
    events = [
        event("aten::addmm", 130, 60),
        event("aten::linear", 120, 100),
        STEP,
        FORWARD,
        event("aten::t", 200, 10),
        event("aten::addmm", 300, 50),
        event("outside the stage", 600, 50),
    ]
    found = costs(tmp_path, events)
    assert found["aten::linear"] == Cost("aten::linear", None, 30, 100, 1, 30 / 400)
    assert found["aten::addmm"] == Cost("aten::addmm", None, 110, 110, 2, 110 / 400)
    assert found["aten::t"].self_ns == 10
    assert found[OUTSIDE_OPERATORS].self_ns == 250
    assert sum(cost.share for cost in found.values()) == pytest.approx(1)
    assert list(found) == [OUTSIDE_OPERATORS, "aten::addmm", "aten::linear", "aten::t"]


def test_an_operator_within_itself_counts_once_in_the_total(tmp_path: Path) -> None:
    found = costs(tmp_path, [STEP, FORWARD, event("a", 100, 90), event("a", 110, 50)])
    assert (found["a"].self_ns, found["a"].total_ns, found["a"].count) == (90, 90, 2)


def test_time_belongs_to_the_innermost_stage(tmp_path: Path) -> None:
    events = [
        STEP,
        FORWARD,
        mark("profkit:transfer", 200, 100),
        event("aten::to", 210, 80),
        mark("my own range", 320, 100),
        event("aten::mm", 330, 20),
    ]
    forward = costs(tmp_path, events)
    assert {name: cost.self_ns for name, cost in forward.items()} == {
        OUTSIDE_OPERATORS: 280,
        "aten::mm": 20,
    }
    transfer = costs(tmp_path, events, Stage.TRANSFER)
    assert transfer["aten::to"].share == pytest.approx(0.8)


def test_what_lies_in_no_stage_is_other(tmp_path: Path) -> None:
    events = [STEP, FORWARD, event("aten::item", 700, 100), event("before the steps", -50, 20)]
    found = costs(tmp_path, events, Stage.OTHER)
    assert found["aten::item"].share == pytest.approx(100 / 600)
    assert found[OUTSIDE_OPERATORS].self_ns == 500
    assert "before the steps" not in found


def test_another_thread_counts_where_the_training_thread_waits(tmp_path: Path) -> None:
    events = [
        STEP,
        mark("profkit:backward", 100, 400),
        event("aten::ones_like", 100, 100),
        # Begins before the stage, runs beside an operator, and reaches beyond the stage.
        event("MmBackward0", 150, 450, tid=AUTOGRAD),
        event("aten::mm", 300, 100, tid=AUTOGRAD),
        # A third thread gets only what the busiest has left.
        event("late", 90, 20, tid=12),
        event("another process", 100, 400, pid=2, tid=AUTOGRAD),
    ]
    found = costs(tmp_path, events, Stage.BACKWARD)
    assert found["aten::ones_like"].self_ns == 100
    backward = found["MmBackward0"]
    assert (backward.self_ns, backward.total_ns) == (200, 300)
    assert backward.context == "another thread"
    assert found["aten::mm"].self_ns == 100
    assert set(found) == {"aten::ones_like", "MmBackward0", "aten::mm"}
    assert sum(cost.share for cost in found.values()) == pytest.approx(1)


def test_the_same_operator_on_two_threads_makes_two_rows(tmp_path: Path) -> None:
    events = [STEP, FORWARD, event("a", 100, 50), event("a", 200, 60, tid=AUTOGRAD)]
    drilldown = operator_costs(table(tmp_path, events), None, Stage.FORWARD)
    rows = [(cost.name, cost.context, cost.self_ns) for cost in drilldown.costs]
    assert rows[1:] == [("a", "another thread", 60), ("a", None, 50)]


def test_calls_into_cuda_count_and_are_cut_to_their_caller(tmp_path: Path) -> None:
    events = [
        STEP,
        FORWARD,
        event("aten::mm", 110, 50),
        event("cudaLaunchKernel", 150, 30, "cuda_runtime"),
        event("gemm", 300, 900, "kernel", pid=0, tid=7),
    ]
    found = costs(tmp_path, events)
    assert found["cudaLaunchKernel"].self_ns == 10
    assert found["aten::mm"].self_ns == 40
    assert "gemm" not in found


def test_a_request_without_a_batch_is_no_step(tmp_path: Path) -> None:
    events = [
        STEP,
        mark("profkit:dataloader", 0, 100),
        mark("ProfilerStep#5", 1000, 200),
        mark("profkit:dataloader", 1000, 200),
        event("aten::rand", 1010, 50),
        mark("profkit:loader_end", 1190, 5),
    ]
    drilldown = operator_costs(table(tmp_path, events), None, Stage.DATALOADER)
    assert drilldown.steps == 1
    assert [(cost.name, cost.self_ns) for cost in drilldown.costs] == [(OUTSIDE_OPERATORS, 100)]


def test_the_row_for_no_operator_survives_the_cut_to_the_top(tmp_path: Path) -> None:
    calls = [event(f"aten::op{n}", 100 + 40 * n, 39 - n) for n in range(9)]
    found = costs(tmp_path, [STEP, FORWARD, *calls], top=2)
    assert set(found) == {"aten::op0", "aten::op1", OUTSIDE_OPERATORS}
    assert sum(cost.share for cost in found.values()) < 1


def test_sources_are_those_of_the_stage_and_name_no_home(tmp_path: Path) -> None:
    sources = {
        "forward": {"aten::mm": "/home/me/project/net.py:12"},
        "backward": {"aten::t": "train.py:3"},
    }
    events = [STEP, FORWARD, event("aten::mm", 110, 50), event("aten::t", 200, 50)]
    found = costs(tmp_path, events, sources=sources)
    assert found["aten::mm"].source == "project/net.py:12"
    assert found["aten::t"].source is None


def test_an_absent_stage_is_a_gap_and_no_zero(tmp_path: Path) -> None:
    drilldown = operator_costs(table(tmp_path, [STEP, FORWARD]), None, Stage.OPTIMIZER)
    assert drilldown.costs == ()
    assert drilldown.gap == "the stage optimizer was not marked in the traced steps"


def test_a_trace_without_steps_is_a_gap(tmp_path: Path) -> None:
    drilldowns = all_operator_costs(table(tmp_path, [event("aten::mm", 0, 5)]))
    assert [each.stage for each in drilldowns] == list(STAGES)
    assert {each.gap for each in drilldowns} == {"the trace holds no steps"}


def test_the_device_idles_in_a_part_of_the_wait(tmp_path: Path) -> None:
    events = [
        STEP,
        mark("profkit:dataloader", 100, 200),
        event("gemm", 50, 100, "kernel", pid=0, tid=7),
        event("beside it", 120, 20, "kernel", pid=0, tid=8),
        event("Memcpy HtoD", 280, 100, "gpu_memcpy", pid=0, tid=7),
    ]
    assert device_idle_in_wait_share(table(tmp_path, events)) == pytest.approx(130 / 200)


def test_a_wait_hidden_behind_the_device_is_not_idle(tmp_path: Path) -> None:
    events = [mark("profkit:dataloader", 100, 200), event("gemm", 0, 900, "kernel", pid=0, tid=7)]
    assert device_idle_in_wait_share(table(tmp_path, events)) == 0


def test_without_a_device_its_idleness_is_unknown(tmp_path: Path) -> None:
    events = [STEP, mark("profkit:dataloader", 100, 200)]
    assert device_idle_in_wait_share(table(tmp_path, events)) is None
