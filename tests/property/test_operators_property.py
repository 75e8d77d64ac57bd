"""What holds for the operators of any trace at all."""

from dataclasses import replace
from itertools import chain

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.analyze.operators import all_operator_costs, device_idle_in_wait_share
from profkit.schema.stage import STAGES
from profkit.schema.trace import TraceTable, stage_range

bounded = settings(max_examples=40, deadline=None)

Row = tuple[str, str, int, int, int, int]
"""Name, category, start, duration, process, thread."""

CATEGORIES = ("user_annotation", "cpu_op", "kernel")
HOST, OTHER_THREADS, DEVICE = 10, (11, 12), 0

# Any two events may cross, as they do where clocks differ: the host's ranges alone nest.
operators = st.builds(
    lambda name, start, duration, thread: (name, "cpu_op", start, duration, 1, thread),
    st.sampled_from("abcd"),
    st.integers(0, 4000),
    st.integers(0, 1500),
    st.sampled_from((HOST, *OTHER_THREADS)),
)
kernels = st.builds(
    lambda start, duration: ("gemm", "kernel", start, duration, DEVICE, 7),
    st.integers(0, 4000),
    st.integers(0, 1500),
)


@st.composite
def ranges(draw: st.DrawFn) -> list[Row]:
    """Up to three steps one after another, with stages in them, one of those nested or not."""
    rows: list[Row] = []
    for step in range(draw(st.integers(1, 3))):
        begin = step * 1300
        rows.append((f"ProfilerStep#{step}", "user_annotation", begin, 1000, 1, HOST))
        for stage in draw(st.lists(st.sampled_from(STAGES), max_size=4)):
            start = begin + 250 * len(rows) % 1000
            rows.append((stage_range(stage), "user_annotation", start, 200, 1, HOST))
            if draw(st.booleans()):
                inner = stage_range(draw(st.sampled_from(STAGES)))
                rows.append((inner, "user_annotation", start + 50, 100, 1, HOST))
    return rows


traces = st.builds(
    lambda *parts: [*chain(*parts)],
    ranges(),
    st.lists(operators, max_size=20),
    st.lists(kernels, max_size=4),
)


def columns(rows: list[Row]) -> TraceTable:
    names = tuple(sorted({row[0] for row in rows}))
    numbers = np.array([row[2:] for row in rows], np.int64)
    return TraceTable(
        names=names,
        name=np.array([names.index(row[0]) for row in rows], np.int64),
        categories=CATEGORIES,
        category=np.array([CATEGORIES.index(row[1]) for row in rows], np.int64),
        start_ns=numbers[:, 0],
        duration_ns=numbers[:, 1],
        process=numbers[:, 2],
        thread=numbers[:, 3],
        stacks=(),
        stack=np.full(len(rows), -1, np.int64),
    )


@bounded
@given(traces)
def test_self_times_partition_the_steps(rows: list[Row]) -> None:
    drilldowns = all_operator_costs(columns(rows), top=100)
    spent = sum(cost.self_ns or 0 for each in drilldowns for cost in each.costs)
    assert spent == sum(row[3] for row in rows if row[0].startswith("ProfilerStep#"))
    for each in drilldowns:
        if each.gap is None:
            assert abs(sum(cost.share for cost in each.costs) - 1) < 1e-9


@bounded
@given(traces)
def test_no_time_is_negative_and_self_is_part_of_total(rows: list[Row]) -> None:
    for each in all_operator_costs(columns(rows)):
        for cost in each.costs:
            assert cost.self_ns is not None
            assert cost.total_ns is not None
            assert 0 <= cost.self_ns <= cost.total_ns
            assert cost.count > 0


@bounded
@given(traces, st.integers(-(10**15), 10**15))
def test_shifting_the_clock_changes_nothing(rows: list[Row], shift: int) -> None:
    trace = columns(rows)
    later = replace(trace, start_ns=trace.start_ns + shift)
    assert all_operator_costs(later) == all_operator_costs(trace)
    assert device_idle_in_wait_share(later) == device_idle_in_wait_share(trace)


@bounded
@given(traces, st.randoms(use_true_random=False))
def test_the_order_in_the_file_changes_nothing(rows: list[Row], random: "st.random.Random") -> None:
    shuffled = random.sample(rows, len(rows))
    # Same start, same length, another name: which of the two is the inner one is open.
    if len({row[2:] for row in rows}) == len(rows):
        assert all_operator_costs(columns(shuffled)) == all_operator_costs(columns(rows))


@bounded
@given(traces)
def test_idleness_is_a_share_or_unknown(rows: list[Row]) -> None:
    share = device_idle_in_wait_share(columns(rows))
    assert share is None or 0 <= share <= 1
    if not any(row[1] == "kernel" for row in rows):
        assert share is None
