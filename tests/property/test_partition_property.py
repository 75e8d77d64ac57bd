"""The vectorised partition against one that walks from event to event."""

from array import array

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from profkit.probe.partition import (
    BATCH,
    BEGIN,
    LEAVE,
    OPEN,
    WAIT,
    WAITED,
    close_event,
    is_close,
    partition,
)
from profkit.schema.stage import STAGES, Stage

_DATALOADER, _OTHER = STAGES.index(Stage.DATALOADER), STAGES.index(Stage.OTHER)
within = st.sampled_from([*range(len(STAGES)), LEAVE, LEAVE, LEAVE, WAIT, WAITED])
gaps = st.integers(0, 50)


@st.composite
def steps(draw: st.DrawFn) -> list[int]:
    """The events of one step; before it, now and then, the end of a mark that outlived its own."""
    marks = draw(st.lists(within, max_size=12))
    waits = draw(st.lists(st.sampled_from([_DATALOADER, LEAVE, _OTHER]), max_size=2))
    opening = draw(st.sampled_from([[OPEN, *waits, BATCH], [BEGIN]]))
    strays = draw(st.lists(st.just(LEAVE), max_size=2))
    return [*strays, *opening, *marks, close_event(draw(st.integers(-1, 9)), 0)]


loops = st.lists(steps(), min_size=1, max_size=6)


def walk(codes: list[int], when: list[int]) -> list[tuple[list[int], list[bool], int]]:
    """Stages, marks and waits of each step, told one event at a time."""
    found = []
    stack: list[int] = []
    came = opened = False
    taken, marked, waited = [0] * len(STAGES), [False] * len(STAGES), 0
    for row, code in enumerate(codes):
        if is_close(code):
            marked[_OTHER] = True
            found.append((taken, marked, waited))
            opened = False
            continue
        if code in (OPEN, BEGIN):
            stack, came, opened = [], code == BEGIN, True
            taken, marked, waited = [0] * len(STAGES), [False] * len(STAGES), 0
        elif code == BATCH:
            came = True
        elif code >= 0:
            stack.append(code)
        elif code == LEAVE and stack:
            stack.pop()
        if not opened:
            continue
        duration = when[row + 1] - when[row]
        stage = stack[-1] if stack else (_OTHER if came else _DATALOADER)
        taken[stage] += duration
        marked[stage] = True
        if code == WAIT and codes[row + 1] != WAIT:
            waited += duration
    return found


@given(loops, st.data())
def test_every_step_is_split_as_by_a_walk_through_its_events(
    loop: list[list[int]], data: st.DataObject
) -> None:
    codes = [code for step in loop for code in step]
    passing = data.draw(st.lists(gaps, min_size=len(codes), max_size=len(codes)))
    when = np.cumsum(passing).tolist()
    events = array("q", [value for pair in zip(codes, when, strict=True) for value in pair])
    table, marks = partition(events, collectives=True)
    expected = walk(codes, when)
    assert table.stage_ns.tolist() == [taken for taken, _, _ in expected]
    assert table.marked.tolist() == [marked for _, marked, _ in expected]
    assert table.collective_wait_ns is not None
    assert table.collective_wait_ns.tolist() == [waited for _, _, waited in expected]
    assert (table.stage_ns.sum(axis=1) == table.step_ns).all()
    assert (table.start_ns[1:] >= table.end_ns[:-1]).all()
    shown = np.zeros_like(table.stage_ns)
    np.add.at(shown, (marks.step, marks.stage), marks.end_ns - marks.start_ns)
    assert (shown == table.stage_ns).all()
