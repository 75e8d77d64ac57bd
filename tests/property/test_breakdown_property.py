"""What holds for any steps at all."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conftest import make_manifest
from profkit.analyze.breakdown import break_down
from profkit.probe.marks import StageClock
from profkit.schema.stage import STAGES
from profkit.schema.steps import StepTable
from profkit.store.records import read_run
from profkit.store.run_directory import write_manifest
from profkit.store.streams import RunWriter

NAMES = [stage.value for stage in STAGES]
durations = st.integers(0, 10**12)
# What happens in a step: time passes, or a stage begins (around what follows it) or ends.
events = st.lists(st.one_of(durations, st.sampled_from([*NAMES, "end"])), max_size=20)
loops = st.lists(events, min_size=1, max_size=6)


def run_loop(loop: list[list[int | str]], start: int = 0) -> tuple[StepTable, int]:
    """Run the clock through a loop on a fake time; the table and the time passed."""
    now = [start]
    tables: list[StepTable] = []
    clock = StageClock(lambda steps, marks: tables.append(steps), now=lambda: now[0])
    for step in clock.steps(loop):
        open_marks = []
        for event in step:
            if isinstance(event, int):
                now[0] += event
            elif event != "end":
                mark = clock.stage(event)
                mark.__enter__()
                open_marks.append(mark)
            elif open_marks:
                open_marks.pop().__exit__()
        for mark in reversed(open_marks):
            mark.__exit__()
    clock.flush()
    return StepTable.concatenate(tables), now[0] - start


@given(loops)
def test_stages_sum_to_the_step_and_steps_to_the_loop(loop: list[list[int | str]]) -> None:
    steps, passed = run_loop(loop)
    assert (steps.stage_ns.sum(axis=1) == steps.step_ns).all()
    assert steps.step_ns.sum() == passed
    assert (steps.stage_ns >= 0).all()


@given(loops, st.integers(0, 2**40))
def test_shifting_the_clock_changes_nothing(loop: list[list[int | str]], shift: int) -> None:
    steps, _ = run_loop(loop)
    shifted, _ = run_loop(loop, start=shift)
    assert (steps.stage_ns == shifted.stage_ns).all()


@given(loops)
def test_saved_and_loaded_is_the_same_and_absent_stays_absent(
    loop: list[list[int | str]],
) -> None:
    steps, _ = run_loop(loop)
    with TemporaryDirectory() as place:
        write_manifest(Path(place), make_manifest())
        writer = RunWriter(Path(place))
        writer.append(steps)
        writer.close()
        loaded = read_run(Path(place)).steps
    assert (loaded.stage_ns == steps.stage_ns).all()
    assert (loaded.marked == steps.marked).all()
    assert (loaded.start_ns == steps.start_ns).all()
    assert (loaded.flags == steps.flags).all()


@given(loops.filter(lambda loop: any(isinstance(e, int) and e > 0 for s in loop for e in s)))
def test_shares_sum_to_one_and_unmarked_stages_are_none(loop: list[list[int | str]]) -> None:
    steps, _ = run_loop(loop)
    busy = steps.select(steps.step_ns > 0)
    found = break_down(replace(busy, flags=np.zeros(len(busy), np.int64)))
    shares = [finding.share.value for finding in found.stages.values() if finding is not None]
    assert abs(sum(shares) - 1) < 1e-9
    for column, stage in enumerate(STAGES):
        assert (found.stages[stage] is None) == (not busy.marked[:, column].any())
