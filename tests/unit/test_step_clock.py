"""The clock of loops that profkit runs: where the step is, told to whoever asks."""

from typing import Any

from conftest import FakeTime
from profkit.probe.step_clock import StepClock
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag

FOREVER = 2**62


def test_it_tells_where_the_step_is() -> None:
    clock = StepClock(now=FakeTime())
    seen: list[Stage | None] = [clock.where()]

    def batches() -> Any:
        seen.append(clock.where())
        yield 1

    def step(batch: int) -> None:
        seen.append(clock.where())
        with clock.stage("optimizer"):
            seen.append(clock.where())
            with clock.stage("forward"):
                seen.append(clock.where())
            seen.append(clock.where())
        seen.append(clock.where())

    clock.run_steps(batches(), step, 1, hooked=False, deadline_ns=FOREVER)
    seen.append(clock.where())
    assert seen == [
        None,
        Stage.DATALOADER,
        Stage.OTHER,
        Stage.OPTIMIZER,
        Stage.FORWARD,
        Stage.OPTIMIZER,
        Stage.OTHER,
        None,
    ]


def test_steps_partition_the_time_and_stop_at_the_deadline() -> None:
    time = FakeTime()
    clock = StepClock(now=time)

    def batches() -> Any:
        while True:
            time.pass_ns(3)
            yield 1

    def step(batch: int) -> None:
        time.pass_ns(2)
        with clock.stage("forward"):
            time.pass_ns(5)

    done = clock.run_steps(
        batches(), step, 100, hooked=False, deadline_ns=time.now_ns + 25, warmup=1
    )
    table = clock.take()
    assert done == len(table) == 3
    assert table.step_ns.tolist() == [10, 10, 10]
    assert table.stage_ns.tolist() == [[3, 0, 5, 0, 0, 2]] * 3
    assert table.flags.tolist() == [Flag.BLOCK_START | Flag.WARMUP, 0, 0]
    assert len(clock.take()) == 0


def test_an_iterator_that_ends_leaves_no_open_step() -> None:
    time = FakeTime()
    clock = StepClock(now=time)
    assert clock.run_steps(iter([1, 2]), print, 5, hooked=True, deadline_ns=FOREVER) == 2
    time.pass_ns(100)
    assert clock.run_steps(iter([1]), print, 1, hooked=True, deadline_ns=FOREVER) == 1
    assert clock.take().step_ns.tolist() == [0, 0, 0]


def test_a_step_that_fails_is_none() -> None:
    clock = StepClock(now=FakeTime())

    def fails(batch: int) -> None:
        if batch == 2:
            raise ValueError

    try:
        clock.run_steps(iter([1, 2, 3]), fails, 3, hooked=True, deadline_ns=FOREVER)
    except ValueError:
        assert clock.busy
        assert len(clock.take()) == 1
    else:
        raise AssertionError("the step's own error was lost")
