import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from conftest import FakeTime, Gathered
from profkit.errors import InputError
from profkit.probe.batch_size import batch_sizer
from profkit.probe.marks import StageClock
from profkit.probe.partition import is_sampled
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag, MarkTable, StepTable

Paced = Callable[[Iterable[object], int], Iterable[object]]


def column(stage: Stage) -> int:
    return STAGES.index(stage)


def test_a_step_is_split_exactly(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered, paced: Paced
) -> None:
    for _ in clock.steps(paced(range(3), 70)):
        with clock.stage("transfer"):
            fake_time.pass_ns(2)
        with clock.stage("forward"):
            fake_time.pass_ns(11)
        with clock.stage("backward"):
            fake_time.pass_ns(13)
        fake_time.pass_ns(5)
        with clock.stage("optimizer"):
            fake_time.pass_ns(3)
    clock.flush()
    steps = gathered.steps
    assert steps.stage_ns.tolist() == [[70, 2, 11, 13, 3, 5]] * 3
    assert steps.step_ns.tolist() == [104] * 3
    assert steps.marked.all()


def test_a_stage_without_a_mark_is_not_a_zero(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    for _ in clock.steps(range(2)):
        with clock.stage("forward"):
            fake_time.pass_ns(1)
    clock.flush()
    seen = gathered.steps.marked[0]
    assert [stage for stage in STAGES if seen[column(stage)]] == [
        Stage.DATALOADER,
        Stage.FORWARD,
        Stage.OTHER,
    ]


def test_the_innermost_mark_wins(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    for _ in clock.steps(range(1)):
        with clock.stage("optimizer"):
            fake_time.pass_ns(1)
            with clock.stage("forward"):
                fake_time.pass_ns(10)
                with clock.stage("forward"):
                    fake_time.pass_ns(100)
            fake_time.pass_ns(1000)
    clock.flush()
    row = gathered.steps.stage_ns[0]
    assert row[column(Stage.OPTIMIZER)] == 1001
    assert row[column(Stage.FORWARD)] == 110


def test_the_loaders_end_closes_the_last_step_and_opens_none(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    def loader() -> Iterable[int]:
        yield 1
        fake_time.pass_ns(10_000)  # the search for a batch that does not come

    for _ in clock.steps(loader()):
        fake_time.pass_ns(7)
    clock.flush()
    assert gathered.steps.step_ns.tolist() == [7]


def test_starting_the_iterator_is_outside_the_steps(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    class Slow:
        def __iter__(self) -> Iterable[int]:
            fake_time.pass_ns(10_000)
            return iter([1])

    for _ in clock.steps(Slow()):  # type: ignore[arg-type]
        fake_time.pass_ns(7)
    clock.flush()
    assert gathered.steps.step_ns.tolist() == [7]


def test_zipped_loaders_share_the_step_of_the_first(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered, paced: Paced
) -> None:
    pairs = zip(clock.steps(paced("ab", 3)), clock.steps(paced("cd", 40)), strict=False)
    assert [pair for pair in pairs if fake_time.pass_ns(100) is None] == [("a", "c"), ("b", "d")]
    clock.flush()
    assert len(gathered.steps) == 2
    assert gathered.steps.stage_ns[:, column(Stage.DATALOADER)].tolist() == [43, 43]
    assert gathered.steps.stage_ns[:, column(Stage.OTHER)].tolist() == [100, 100]


def test_a_nested_loader_waits_within_the_outer_step(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered, paced: Paced
) -> None:
    for _ in clock.steps(paced(range(2), 10)):
        for _ in clock.steps(paced(range(3), 5)):
            fake_time.pass_ns(1)
    clock.flush()
    assert gathered.steps.stage_ns[:, column(Stage.DATALOADER)].tolist() == [25, 25]


def test_a_loop_that_is_left_marks_its_step_as_partial(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    for batch in clock.steps(range(5)):
        fake_time.pass_ns(4)
        if batch == 1:
            break
    fake_time.pass_ns(1000)
    for _ in clock.steps(range(1)):
        fake_time.pass_ns(4)
    clock.flush()
    flags = gathered.steps.flags
    assert [bool(flag & Flag.PARTIAL) for flag in flags] == [False, True, False]
    assert [bool(flag & Flag.BLOCK_START) for flag in flags] == [True, False, True]


def test_marks_outside_steps_count_nowhere(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    with clock.stage("forward"):
        fake_time.pass_ns(500)
    for _ in clock.steps(range(1)):
        fake_time.pass_ns(1)
    with clock.stage("forward"):
        fake_time.pass_ns(500)
    clock.flush()
    assert gathered.steps.stage_ns.sum() == 1
    assert not gathered.steps.marked[0, column(Stage.FORWARD)]


def test_an_exception_passes_and_the_next_loop_is_clean(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    def broken() -> Iterable[int]:
        yield 1
        raise OSError("no such sample")

    def train(loader: Iterable[int]) -> None:
        for _ in clock.steps(loader):
            with clock.stage("forward"):
                fake_time.pass_ns(2)

    with pytest.raises(OSError, match="no such sample"):
        train(broken())
    train([1])
    clock.flush()
    assert gathered.steps.stage_ns[:, column(Stage.FORWARD)].tolist() == [2, 2]


def test_another_threads_marks_are_ignored(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    def elsewhere() -> None:
        with clock.stage("forward"):
            fake_time.pass_ns(50)
        for _ in clock.steps(range(4)):
            pass

    for _ in clock.steps(range(1)):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    clock.flush()
    assert len(gathered.steps) == 1
    assert gathered.steps.stage_ns[0, column(Stage.OTHER)] == 50
    assert clock.foreign_steps == 1


def test_time_in_the_sink_falls_into_no_step(fake_time: FakeTime) -> None:
    kept = Gathered()

    def slow_sink(steps: StepTable, marks: MarkTable) -> None:
        fake_time.pass_ns(1_000_000)
        kept(steps, marks)

    clock = StageClock(slow_sink, now=fake_time, capacity=1)
    for _ in clock.steps(range(4)):
        fake_time.pass_ns(5)
    clock.flush()
    assert len(kept.tables) == 4
    assert kept.steps.step_ns.tolist() == [5] * 4
    assert clock.sink_ns == 4_000_000


def test_the_sink_is_called_once_a_period(fake_time: FakeTime, gathered: Gathered) -> None:
    clock = StageClock(gathered, now=fake_time, period_ns=100)
    for _ in clock.steps(range(50)):
        fake_time.pass_ns(10)
    assert len(gathered.tables) == 5


def test_warmup_is_flagged_for_the_run_and_for_each_iteration(
    fake_time: FakeTime, gathered: Gathered
) -> None:
    clock = StageClock(gathered, now=fake_time, warmup=1)
    for _ in range(2):
        for _ in clock.steps(range(4), warmup=2):
            fake_time.pass_ns(1)
    clock.flush()
    warm = (gathered.steps.flags & int(Flag.WARMUP)) != 0
    assert warm.tolist() == [True, True, False, False] * 2


def test_segments_partition_the_sampled_steps(
    fake_time: FakeTime, gathered: Gathered, paced: Paced
) -> None:
    clock = StageClock(gathered, now=fake_time, period_ns=500)
    for _ in clock.steps(paced(range(300), 10)):
        with clock.stage("forward"):
            fake_time.pass_ns(3)
        fake_time.pass_ns(2)
    clock.flush()
    steps, found = gathered.steps, gathered.marks
    assert len(found) > 5
    step, stage, start, end = (
        np.concatenate([getattr(marks, name) for marks in found])
        for name in ("step", "stage", "start_ns", "end_ns")
    )
    assert sorted(set(step.tolist())) == np.flatnonzero(is_sampled(np.arange(300))).tolist()
    for row in set(step.tolist()):
        inside = step == row
        assert (start[inside][1:] == end[inside][:-1]).all()
        assert start[inside][0] == steps.start_ns[row]
        assert end[inside][-1] == steps.end_ns[row]
        taken = np.bincount(stage[inside], end[inside] - start[inside], len(STAGES))
        assert taken.tolist() == steps.stage_ns[row].tolist()


def test_the_sample_of_steps_is_bounded() -> None:
    assert is_sampled(np.arange(1 << 20)).sum() == 64 + 14 * 32


def test_a_mark_that_outlives_its_step_counts_in_no_other(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    mark = clock.stage("forward")
    for batch in clock.steps(range(3)):
        if batch == 0:
            mark.__enter__()
        fake_time.pass_ns(5)
        if batch == 1:
            mark.__exit__()
            with clock.stage("backward"):
                fake_time.pass_ns(7)
        fake_time.pass_ns(1)
    clock.flush()
    assert gathered.steps.stage_ns.tolist() == [
        [0, 0, 6, 0, 0, 0],
        [0, 0, 0, 7, 0, 6],
        [0, 0, 0, 0, 0, 6],
    ]


def test_a_flush_within_a_step_loses_nothing(
    clock: StageClock, fake_time: FakeTime, gathered: Gathered
) -> None:
    for _ in clock.steps(range(2)):
        with clock.stage("forward"):
            fake_time.pass_ns(5)
            clock.flush()
            fake_time.pass_ns(5)
    clock.flush()
    assert gathered.steps.stage_ns[:, column(Stage.FORWARD)].tolist() == [10, 10]


def test_a_called_stage_leaves_a_frame_that_names_it(clock: StageClock, gathered: Gathered) -> None:
    import sys

    seen = []

    def look(value: int) -> int:
        seen.append(sys._getframe(1).f_code.co_name)
        return value + 1

    for _ in clock.steps(range(1)):
        assert clock.call("backward", look, 4) == 5
    assert seen == ["profkit_stage_backward"]


def test_an_unknown_stage_names_the_known_ones(clock: StageClock) -> None:
    with pytest.raises(InputError, match="unknown stage 'forwards': use one of dataloader, "):
        clock.stage("forwards")


def test_steps_are_as_long_as_the_loader(clock: StageClock) -> None:
    assert len(clock.steps([1, 2, 3])) == 3
    with pytest.raises(TypeError):
        len(clock.steps(iter([1])))


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (np.zeros((7, 3)), 7),
        ((np.zeros((7, 3)), None), 7),
        ({"image": [np.zeros((7, 3))]}, 7),
        ("text", None),
        ([], None),
        (np.float64(3), None),
        (5, None),
    ],
)
def test_the_batch_size_is_found_in_the_usual_shapes(batch: object, size: int | None) -> None:
    sizer = batch_sizer(batch)
    assert (None if sizer is None else sizer(batch)) == size


def test_batches_that_change_their_form_break_nothing(
    clock: StageClock, gathered: Gathered
) -> None:
    for _ in clock.steps([np.zeros((7, 3)), None, np.zeros((7, 3))]):
        pass
    for _ in clock.steps([np.zeros((4, 3)), np.zeros((2, 3))]):
        pass
    clock.flush()
    assert gathered.steps.samples.tolist() == [7, -1, -1, 4, 2]
