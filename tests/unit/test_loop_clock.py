import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from profkit.probe.loop_clock import MOST_REQUESTS, MOST_ROUNDS
from profkit.probe.partition import LEAVE
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag, MarkTable, StepTable
from scripted_loop import Module, ScriptedLoop

DATALOADER, OTHER = STAGES.index(Stage.DATALOADER), STAGES.index(Stage.OTHER)
START, NONE = Flag.BLOCK_START, Flag(0)


@pytest.fixture
def loop() -> ScriptedLoop:
    return ScriptedLoop()


class Batch:
    """Of so many samples."""

    def __init__(self, size: int) -> None:
        self.shape = (size,)

    def __len__(self) -> int:
        return self.shape[0]


# A loop over one loader ---------------------------------------------------------------------------


def test_a_step_goes_from_request_to_request(loop: ScriptedLoop) -> None:
    for batch in loop.loader([Batch(4), Batch(4), Batch(3)], wait_ns=70):
        loop.time.pass_ns(2)
        loop.forward(11)
        loop.backward(13)
        loop.optimize(3 + len(batch))
    assert loop.rows == [[70, None, 11, 13, 7, 2]] * 2 + [[70, None, 11, 13, 6, 2]]
    assert loop.flags == [START, NONE, NONE]
    assert loop.samples == [4, 4, 3]
    steps = loop.kept.steps
    assert (steps.start_ns[1:] == steps.end_ns[:-1]).all()
    assert not loop.clock.step_is_open


def test_what_lies_between_two_epochs_is_in_no_step(loop: ScriptedLoop) -> None:
    for _ in range(2):
        for _ in loop.loader(range(2), wait_ns=5):
            loop.train(1, 1, 1)
        loop.time.pass_ns(1_000_000)
    assert loop.step_ns == [8] * 4
    assert loop.flags == [START, NONE] * 2


def test_a_stage_without_a_mark_is_not_a_zero(loop: ScriptedLoop) -> None:
    for _ in loop.loader(range(1)):
        loop.backward()
    assert loop.rows == [[0, None, None, 0, None, 0]]


def test_gradient_accumulation_is_one_step_a_batch(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(4), wait_ns=10):
        loop.forward(1)
        loop.backward(2)
        if batch % 2:
            loop.optimize(4)
    assert (
        loop.rows
        == [
            [10, None, 1, 2, None, 0],
            [10, None, 1, 2, 4, 0],
        ]
        * 2
    )
    assert loop.flags == [START, NONE, NONE, NONE]


def test_a_loop_that_is_left_marks_its_last_step_as_partial(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(5)):
        loop.train(4)
        if batch == 1:
            break
    loop.time.pass_ns(1_000)
    for _ in loop.loader(range(1)):
        loop.train(4)
    assert loop.flags == [START, Flag.PARTIAL, START]
    assert loop.step_ns == [4, 4, 4]


def test_an_exception_in_the_body_passes_and_the_next_loop_is_clean(loop: ScriptedLoop) -> None:
    def run(fails: bool) -> None:
        for _ in loop.loader(range(2)):
            loop.forward(2)
            if fails:
                raise ArithmeticError("overflow")
            loop.train()

    with pytest.raises(ArithmeticError, match="overflow"):
        run(fails=True)
    run(fails=False)
    assert loop.flags == [START | Flag.PARTIAL | Flag.EVALUATION, START, NONE]


def test_an_exception_in_the_loader_makes_no_step(loop: ScriptedLoop) -> None:
    def broken() -> Iterator[int]:
        yield 1
        loop.time.pass_ns(50)
        raise OSError("no such sample")

    def run() -> None:
        for _ in loop.loader(broken()):
            loop.train(2)

    with pytest.raises(OSError, match="no such sample"):
        run()
    assert loop.step_ns == [2]
    assert not loop.clock.busy
    loop.train()
    assert loop.clock.step_is_open


def test_an_exception_in_a_stage_leaves_the_clock_usable(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(3)):
        try:
            with loop.marked(Stage.FORWARD, owns=True):
                loop.clock.forwards += 1
                loop.time.pass_ns(3)
                if batch == 1:
                    raise MemoryError
        except MemoryError:
            continue
        loop.backward(2)
    assert loop.rows == [
        [0, None, 3, 2, None, 0],
        [0, None, 3, None, None, 0],
        [0, None, 3, 2, None, 0],
    ]


def test_nothing_to_iterate_makes_no_step(loop: ScriptedLoop) -> None:
    for _ in loop.loader([], wait_ns=7):
        pass
    assert loop.rows == []
    assert not loop.clock.step_is_open


# Requests and work --------------------------------------------------------------------------------


def test_batches_fetched_together_make_one_step(loop: ScriptedLoop) -> None:
    batches = loop.loader([Batch(2)] * 8, wait_ns=10)
    for _ in range(2):
        for _ in list(itertools.islice(batches, 4)):
            loop.train(1, 2, 3)
    assert next(batches, None) is None
    assert loop.rows == [[40, None, 4, 8, 12, 0]] * 2
    assert loop.samples == [8, 8]


def test_a_batch_fetched_ahead_moves_no_boundary(loop: ScriptedLoop) -> None:
    batches = loop.loader(range(4), wait_ns=10)
    ahead = next(batches)
    while ahead is not None:
        ahead = next(batches, None)
        loop.train(1, 2, 3)
    loop.clock.end()
    # The first step holds two waits; no request opens the last one, so it is one without loader.
    assert loop.rows == [
        [20, None, 1, 2, 3, 0],
        [10, None, 1, 2, 3, 0],
        [10, None, 1, 2, 3, 0],
        [None, None, 1, 2, 3, 0],
    ]
    assert loop.flags == [START, NONE, NONE, START | Flag.PARTIAL]


def test_a_loop_that_only_reads_has_bounded_steps(loop: ScriptedLoop) -> None:
    for _ in loop.loader(range(3 * MOST_REQUESTS), wait_ns=1):
        pass
    assert loop.step_ns == [MOST_REQUESTS] * 3
    assert all(flags & Flag.EVALUATION for flags in loop.flags)


def test_steps_that_train_nothing_are_evaluation(loop: ScriptedLoop) -> None:
    for _ in loop.loader(range(2), wait_ns=5):
        loop.train(1)
    for _ in loop.loader(range(2), wait_ns=5):
        loop.forward(1)
    assert loop.flags == [START, NONE, START | Flag.EVALUATION, Flag.EVALUATION]


def test_warm_up_counts_only_steps_that_train() -> None:
    loop = ScriptedLoop(warmup=3)
    for _ in loop.loader(range(2)):
        loop.forward(1)
    for _ in range(2):
        for _ in loop.loader(range(2)):
            loop.train(1)
    warm = [bool(flags & Flag.WARMUP) for flags in loop.flags]
    assert warm == [False, False, True, True, True, False]


def test_batches_that_change_their_form_break_nothing(loop: ScriptedLoop) -> None:
    for _ in loop.loader([Batch(7), None, Batch(7)]):
        loop.train()
    for _ in loop.loader([Batch(4), Batch(2)]):
        loop.train()
    assert loop.samples == [7, -1, -1, 4, 2]


def test_a_batch_that_does_not_tell_its_size_breaks_nothing(loop: ScriptedLoop) -> None:
    class Shy:
        @property
        def shape(self) -> object:
            raise RuntimeError("not allocated")

    for _ in loop.loader([Shy(), Shy()]):
        loop.train()
    assert loop.samples == [-1, -1]


@pytest.mark.parametrize("first", [None, "a", 2.5, -3])
def test_a_batch_whose_shape_holds_anything_breaks_nothing(
    loop: ScriptedLoop, first: object
) -> None:
    class Odd:
        shape = (first, 3)

    for _ in loop.loader([(Odd(), 1), (Odd(), 2)]):
        loop.train()
    assert loop.samples == [-1, -1]


# Several loaders ----------------------------------------------------------------------------------


def test_zipped_loaders_make_one_step_and_the_seconds_wait_is_data_wait(
    loop: ScriptedLoop,
) -> None:
    pairs = zip(loop.loader("ab", 3), loop.loader("cd", 40), strict=False)
    for _ in pairs:
        loop.train(100, 10, 1)
    assert loop.rows == [[43, None, 100, 10, 1, 0]] * 2
    assert loop.flags == [START, NONE]
    assert loop.clock.evaluation_batches == 0


def test_a_second_loader_that_begins_anew_within_a_loop_is_no_evaluation(
    loop: ScriptedLoop,
) -> None:
    few = loop.loader(range(2), 5)
    for _ in loop.loader(range(5), 1):
        if next(few, None) is None:
            few = loop.loader(range(2), 5)
            next(few)
        loop.train(1)
    assert len(loop.rows) == 5
    assert not any(flags & Flag.INTERRUPTED for flags in loop.flags)
    assert loop.clock.evaluation_batches == 0


def test_an_evaluation_in_the_middle_is_told_apart(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(4), wait_ns=1):
        loop.train(2)
        if batch == 2:
            for _ in loop.loader(range(3), wait_ns=10):
                loop.forward(100)
    assert loop.flags == [START, NONE, Flag.INTERRUPTED, NONE]
    assert loop.clock.evaluation_batches == 3
    # Three batches, and the request that found no fourth.
    assert loop.clock.evaluation_ns == 3 * 110 + 10


def test_an_evaluation_that_is_left_early_is_told_apart(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(3), wait_ns=1):
        loop.train(2)
        if batch == 1:
            for number in loop.loader(range(9), wait_ns=10):
                loop.forward(100)
                if number == 1:
                    break
    assert loop.flags == [START, Flag.INTERRUPTED, NONE]
    assert (loop.clock.evaluation_batches, loop.clock.evaluation_ns) == (2, 220)


def test_an_evaluation_in_every_step_does_not_lose_them_all(loop: ScriptedLoop) -> None:
    for _ in loop.loader(range(4), wait_ns=1):
        for _ in loop.loader(range(2), wait_ns=10):  # labels for what has none
            loop.forward(5)
        loop.train(2)
    assert loop.flags == [START | Flag.INTERRUPTED, NONE, NONE, NONE]
    # What belongs to its step is not counted apart as well.
    assert loop.clock.evaluation_batches == 2


def test_a_training_loop_within_a_step_is_part_of_it(loop: ScriptedLoop) -> None:
    for _ in loop.loader(range(2), wait_ns=10):
        for _ in loop.loader(range(3), wait_ns=5):
            loop.train(1, 2, 3)
    # The request that finds the inner loader at its end waits too.
    assert loop.rows == [[10 + 4 * 5, None, 3, 6, 9, 0]] * 2
    assert loop.flags == [START, NONE]


def test_an_iterator_left_lying_gives_way(loop: ScriptedLoop) -> None:
    left = loop.loader(range(9))
    next(left)
    for _ in loop.loader(range(MOST_ROUNDS + 10), wait_ns=1):
        loop.train(1)
    assert loop.flags == [START | Flag.PARTIAL, START, *[NONE] * 8]
    assert loop.step_ns == [2 * (MOST_ROUNDS + 1), *[2] * 9]
    left.close()  # says nothing any more
    assert len(loop.flags) == 10


def test_an_iterator_left_lying_that_was_trained_on_gives_way_to_no_loader(
    loop: ScriptedLoop,
) -> None:
    left = loop.loader([Batch(2)] * 2)
    next(left)
    for _ in range(3 * MOST_ROUNDS):
        loop.train(1)
    loop.clock.beat()
    for _ in range(5):
        loop.train(1)
    assert loop.rows[-4:] == [[None, None, 1, 0, 0, 0]] * 4
    assert all(flags & Flag.PARTIAL for flags in loop.flags[:-4])
    # One that comes back after all is believed from then on.
    loop.train(1)
    next(left)
    for _ in range(3 * MOST_ROUNDS):
        loop.train(1)
    loop.clock.beat()
    loop.train(1)
    next(left, None)
    assert loop.step_ns[-1] == 3 * MOST_ROUNDS + 1
    assert loop.flags[-1] == START


def test_an_evaluation_left_lying_gives_way_to_the_loop_that_trains(loop: ScriptedLoop) -> None:
    left = loop.loader(range(9), wait_ns=5)
    for _ in range(2):
        next(left)
        loop.forward(100)
    for _ in loop.loader(range(4), wait_ns=1):
        loop.train(2)
    # The first step that trains begins within the evaluation's last one, and shares its flag.
    assert loop.flags == [START | Flag.EVALUATION, Flag.PARTIAL, START, NONE, NONE]
    assert loop.step_ns == [105, 105 + 3, 3, 3, 3]
    left.close()
    assert len(loop.flags) == 5


def test_an_evaluation_of_one_batch_left_lying_gives_way_if_it_has_no_more(
    loop: ScriptedLoop,
) -> None:
    for spent in (True, False):
        loop.clock.is_spent = lambda key, spent=spent: spent
        left = loop.loader(range(1))
        next(left)
        loop.forward(100)
        for _ in loop.loader(range(4), wait_ns=1):
            loop.train(2)
        left.close()
    assert loop.step_ns == [100 + 3, 3, 3, 3, 100 + 4 * 3 + 1]


def test_a_loop_that_trains_within_one_that_generates_is_part_of_it(loop: ScriptedLoop) -> None:
    loop.clock.is_spent = lambda key: False
    for _ in loop.loader(range(2), wait_ns=10):
        loop.forward(100)
        for _ in loop.loader(range(3), wait_ns=5):
            loop.train(1)
    assert loop.step_ns == [10 + 100 + 3 * 6 + 5] * 2


def test_an_evaluation_left_lying_within_a_step_is_told_apart_once(loop: ScriptedLoop) -> None:
    left = []
    for batch in loop.loader(range(4), wait_ns=1):
        loop.train(2)
        if batch == 1:
            left.append(loop.loader(range(9), wait_ns=10))
            for _ in range(3):
                next(left[0])
                loop.forward(100)
    left.clear()
    assert loop.flags == [START, Flag.INTERRUPTED, NONE, NONE]
    assert (loop.clock.evaluation_batches, loop.clock.evaluation_ns) == (3, 330)


def test_starting_workers_is_no_part_of_a_step(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(3)):
        loop.train(1)
        if batch == 1:
            loop.clock.starts_workers(12345)
            loop.time.pass_ns(1_000)
    assert loop.flags == [START, Flag.INTERRUPTED, NONE]


def test_a_persistent_iterator_that_begins_anew_closes_what_was_left(loop: ScriptedLoop) -> None:
    clock, key = loop.clock, 77
    for _ in range(2):
        clock.starts_workers(key)
        loop.time.pass_ns(1_000)
        for _ in range(2):
            within = clock.ask(key)
            assert within is False
            loop.time.pass_ns(5)
            clock.got(None, within)
            loop.train(1)
    clock.end()
    assert loop.step_ns == [6] * 4
    assert loop.flags == [START, Flag.PARTIAL] * 2


# No loader ----------------------------------------------------------------------------------------


def test_without_a_loader_the_optimizer_closes_the_steps(loop: ScriptedLoop) -> None:
    for _ in range(3):
        loop.time.pass_ns(5)
        loop.train(1, 2, 3)
    loop.clock.end()
    assert loop.rows == [
        [None, None, 1, 2, 3, 0],
        [None, None, 1, 2, 3, 5],
        [None, None, 1, 2, 3, 5],
    ]
    # When the first one began, nobody saw.
    assert loop.flags == [START | Flag.PARTIAL, NONE, NONE]
    assert loop.samples == [-1] * 3


def test_of_two_optimizers_the_one_that_joined_last_closes(loop: ScriptedLoop) -> None:
    for _ in range(4):
        loop.train(1, 0, 0, key=1)
        loop.train(10, 0, 0, key=2)
    # The first round is split: nobody knew then that there would be a second optimizer.
    assert loop.step_ns == [1, 10, 11, 11, 11]


def test_an_optimizer_that_left_hands_over(loop: ScriptedLoop) -> None:
    for key in (1, 2):
        loop.train(1, key=key)
    for _ in range(MOST_ROUNDS + 4):
        loop.train(1, key=1)
    assert loop.step_ns == [1, 1, MOST_ROUNDS + 1, 1, 1, 1]
    assert loop.flags == [START | Flag.PARTIAL, NONE, Flag.PARTIAL, NONE, NONE, NONE]


def test_an_optimizer_within_itself_closes_one_step(loop: ScriptedLoop) -> None:
    def inner() -> None:
        loop.optimize(5)

    for _ in range(3):
        loop.forward(1)
        loop.backward(2)
        loop.optimize(3, body=inner)
    assert loop.rows == [[None, None, 1, 2, 8, 0]] * 3


def test_a_closure_that_goes_through_a_loader_leaves_whole_steps(loop: ScriptedLoop) -> None:
    def closure() -> None:
        for _ in loop.loader(range(2), wait_ns=10):
            loop.forward(1)
            loop.backward(2)

    for _ in range(2):
        loop.optimize(5, body=closure)
        loop.time.pass_ns(1_000_000)
    for _ in loop.loader(range(1), wait_ns=7):
        loop.train(1, 2, 3)
    loop.clock.end()
    assert loop.rows == [[10, None, 1, 2, None, 0]] * 4 + [[7, None, 1, 2, 3, 0]]


def test_marks_nest_without_a_loader(loop: ScriptedLoop) -> None:
    def closure() -> None:
        loop.forward(10)
        loop.backward(20)

    for _ in range(2):
        loop.optimize(5, body=closure)
    assert loop.rows == [[None, None, 10, 20, 5, 0]] * 2


def test_work_before_the_first_request_is_no_step(loop: ScriptedLoop) -> None:
    loop.forward(1_000)
    for _ in loop.loader(range(1), wait_ns=2):
        loop.train(1)
    assert loop.step_ns == [3]


# Evaluation without a loader ----------------------------------------------------------------------


def test_an_evaluation_of_tensors_interrupts_its_step(loop: ScriptedLoop) -> None:
    model = Module()
    for batch in loop.loader(range(4)):
        loop.clock.trains(model)
        loop.train(1)
        if batch == 2:
            loop.clock.evaluates(model)
    assert loop.flags == [START, NONE, Flag.INTERRUPTED, NONE]


def test_a_model_that_labels_its_own_data_in_every_step_interrupts_none_but_the_first(
    loop: ScriptedLoop,
) -> None:
    model = Module()
    loop.clock.trains(model)
    for _ in loop.loader(range(4)):
        loop.clock.evaluates(model)
        loop.clock.evaluates(model)
        loop.train(1)
    assert loop.flags == [START | Flag.INTERRUPTED, NONE, NONE, NONE]


def test_a_module_that_never_trained_is_no_evaluation(loop: ScriptedLoop) -> None:
    teacher = Module()
    for batch in loop.loader(range(3)):
        loop.train(1)
        if batch == 1:
            loop.clock.evaluates(teacher)
    assert loop.flags == [START, NONE, NONE]


# Enough -------------------------------------------------------------------------------------------


def test_after_enough_steps_nothing_is_seen() -> None:
    told: list[int] = []
    loop = ScriptedLoop(warmup=1, limit=2, enough=lambda: told.append(loop.clock.trained_steps))
    for _ in loop.loader(range(9)):
        loop.forward(1)
        if len(told) == 0:
            loop.backward(1)
    loop.train(1)
    loop.clock.end()
    assert told == [3]
    assert loop.step_ns == [2, 2, 2]
    assert loop.clock._events == []


def test_evaluation_does_not_count_towards_enough() -> None:
    told: list[int] = []
    loop = ScriptedLoop(limit=2, enough=lambda: told.append(1))
    for _ in loop.loader(range(5)):
        loop.forward(1)
    assert told == []
    for _ in range(3):
        loop.train(1)
    assert told == [1]


def test_what_is_due_between_steps_comes_though_every_loop_is_left_after_a_batch() -> None:
    """Not in the finalizer that tells so, out of which nothing could raise."""
    told: list[bool] = []
    loop = ScriptedLoop(period_ns=100, between=lambda: told.append(leaving))
    leaving = False
    for _ in range(20):
        batches = loop.loader(range(5))
        next(batches)
        loop.train(30, 30, 0)
        leaving = True
        batches.close()  # type: ignore[attr-defined]
        leaving = False
    assert 5 <= len(told) <= 20
    assert not any(told)


def test_what_is_due_between_steps_runs_after_each_flush_in_the_loops_thread() -> None:
    threads: list[int] = []
    loop = ScriptedLoop(period_ns=100, between=lambda: threads.append(threading.get_ident()))
    for _ in loop.loader(range(51)):
        loop.train(10)
    assert threads == [threading.get_ident()] * 5


def test_it_is_due_in_epochs_that_are_shorter_than_its_period_too() -> None:
    told: list[int] = []
    loop = ScriptedLoop(period_ns=100, between=lambda: told.append(loop.time()))
    began = loop.time()
    for _ in range(20):
        for _ in loop.loader(range(3)):
            loop.train(10)
    assert [moment - began for moment in told] == [110, 210, 310, 410, 510]


def test_a_clock_stopped_while_a_batch_is_on_its_way_stays_stopped(loop: ScriptedLoop) -> None:
    def stopping() -> Iterator[int]:
        yield 0
        loop.clock.stop()  # a process forked here
        yield 1
        yield 2

    for _ in loop.loader(stopping()):
        loop.train(1)
        assert loop.clock.busy == loop.clock.stopped
    assert loop.clock.trained_steps == 1


def test_the_end_keeps_the_step_of_a_loader_and_drops_one_without(loop: ScriptedLoop) -> None:
    left = loop.loader(range(9))
    next(left)
    loop.train(4)
    loop.clock.end()
    assert loop.flags == [START | Flag.PARTIAL]
    headless = ScriptedLoop()
    headless.train(1)
    headless.forward(1)
    headless.clock.end()
    assert headless.step_ns == [1]


# Threads ------------------------------------------------------------------------------------------


def elsewhere(action: Any) -> None:
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_another_threads_loop_is_counted_and_not_observed(loop: ScriptedLoop) -> None:
    def other() -> None:
        for _ in loop.loader(range(3), wait_ns=10):
            loop.train(5)

    for _ in loop.loader(range(2), wait_ns=1):
        loop.train(1)
        elsewhere(other)
    assert loop.rows == [[1, None, 1, 0, 0, 4 * 10 + 3 * 5]] * 2
    assert loop.clock.foreign_requests == 2 * 4
    assert loop.clock.foreign_trainings > 0


def test_where_training_happens_is_the_loop(loop: ScriptedLoop) -> None:
    def prefetch() -> None:
        for _ in loop.loader(range(3), wait_ns=10):
            pass

    elsewhere(prefetch)
    assert loop.clock.thread != threading.get_ident()
    loop.train(1)  # nobody saw the request for its batch
    for _ in loop.loader(range(2), wait_ns=2):
        loop.train(1)
    assert loop.clock.thread == threading.get_ident()
    assert loop.step_ns[-2:] == [3, 3]
    assert loop.clock.foreign_trainings == 0


def test_a_thread_that_trains_keeps_the_loop(loop: ScriptedLoop) -> None:
    loop.train(1)
    elsewhere(lambda: loop.train(1))
    assert loop.clock.thread == threading.get_ident()
    assert len(loop.rows) == 1


def test_an_iterator_dropped_by_another_thread_says_nothing(loop: ScriptedLoop) -> None:
    batches = loop.loader(range(3))
    next(batches)
    loop.train(3)
    elsewhere(batches.close)
    assert loop.rows == []
    assert loop.clock.step_is_open


# Ranks, compilation, samplers ---------------------------------------------------------------------


def test_waits_for_ranks_lie_within_their_stage() -> None:
    loop = ScriptedLoop()
    loop.clock.watches_collectives = True
    for batch in loop.loader(range(2)):
        loop.forward(1)
        with loop.marked(Stage.BACKWARD, owns=True, trains=True):
            loop.time.pass_ns(5)
            loop.clock.waits_for_ranks()  # a gradient is ready, but not the last one
            loop.time.pass_ns(2)
            loop.clock.waits_for_ranks()
            loop.time.pass_ns(20)
        if batch:
            loop.clock.waits_for_ranks()
            loop.time.pass_ns(100)
            loop.clock.waited_for_ranks()
            loop.time.pass_ns(3)
    assert loop.rows == [[0, None, 1, 27, None, 0], [0, None, 1, 27, None, 103]]
    assert loop.waits_ns == [20, 120]


def test_where_no_rank_is_watched_the_wait_is_not_known(loop: ScriptedLoop) -> None:
    loop.train(1)
    assert loop.step_ns == [1]
    assert loop.waits_ns is None


def test_waits_outside_of_steps_or_in_other_threads_count_nowhere(loop: ScriptedLoop) -> None:
    loop.clock.watches_collectives = True
    loop.clock.claim()
    loop.clock.waits_for_ranks()
    loop.time.pass_ns(50)
    loop.clock.waited_for_ranks()
    for _ in loop.loader(range(1)):
        elsewhere(loop.clock.waits_for_ranks)
        loop.train(1)
    assert loop.waits_ns == [0]
    assert loop.step_ns == [1]


def test_a_step_in_which_something_was_compiled_says_so(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(3)):
        if batch == 1:
            loop.clock.compilation_begins()
            loop.time.pass_ns(500)
            loop.clock.compilation_ends()
        loop.train(1)
    assert loop.flags == [START, Flag.COMPILED, NONE]
    assert (loop.clock.compilations, loop.clock.compiling_ns) == (1, 500)


def test_steps_beside_a_sampler_are_disturbed(loop: ScriptedLoop) -> None:
    for batch in loop.loader(range(4)):
        loop.clock.disturb(batch in (1, 2))
        loop.train(1)
    assert loop.flags == [START, Flag.DISTURBED, Flag.DISTURBED, NONE]


# The heartbeat ------------------------------------------------------------------------------------


def test_a_beat_hands_on_what_a_pause_would_hold_back() -> None:
    loop = ScriptedLoop(period_ns=100)
    for batch in loop.loader(range(3)):
        loop.train(1)
        if batch == 1:
            loop.clock.beat()
            assert len(loop.kept.steps) == 0
            loop.time.pass_ns(1_000)
            loop.clock.beat()
            assert len(loop.kept.steps) == 1
            loop.time.pass_ns(1_000)
            loop.clock.beat()
    assert loop.step_ns == [1, 2_001, 1]


def test_a_beat_forgets_the_marks_of_a_step_that_does_not_end() -> None:
    loop = ScriptedLoop(capacity=8)
    for batch in loop.loader(range(3), wait_ns=5):
        loop.train(1)
        for _ in range(100 if batch == 1 else 0):
            loop.forward(1)
        loop.clock.beat()
        assert len(loop.clock._events) < 50
    assert loop.flags == [START, Flag.PARTIAL, NONE]
    assert loop.step_ns == [6, 106, 6]
    assert loop.rows[2] == [5, None, 1, 0, 0, 0]


def test_a_step_shed_after_a_mark_outlived_the_one_before_keeps_its_opening() -> None:
    loop = ScriptedLoop(capacity=8)
    for _ in loop.loader(range(2), wait_ns=5):
        loop.train(1)
    for _ in range(3):
        loop.clock.push((LEAVE, loop.time()))
    loop.time.pass_ns(1_000)
    for _ in loop.loader(range(1), wait_ns=5):
        for _ in range(100):
            loop.forward(1)
        loop.clock.beat()
    assert loop.step_ns == [6, 6, 105]


# Handing on ---------------------------------------------------------------------------------------


def test_time_in_the_sink_falls_into_no_step() -> None:
    loop = ScriptedLoop(capacity=1)
    keep = loop.clock._sink

    def slow(steps: StepTable, marks: MarkTable) -> None:
        loop.time.pass_ns(1_000_000)
        keep(steps, marks)

    loop.clock._sink = slow
    for _ in loop.loader(range(4), wait_ns=2):
        loop.train(1)
    assert loop.step_ns == [3] * 4
    assert loop.clock.sink_ns == 4_000_000


def test_a_program_that_ends_during_a_flush_does_not_hang() -> None:
    loop = ScriptedLoop(capacity=1)
    keep = loop.clock._sink

    def ending(steps: StepTable, marks: MarkTable) -> None:
        keep(steps, marks)
        loop.clock.end()  # a signal handler that calls `os._exit`, say

    def run() -> None:
        loop.clock._sink = ending
        for _ in loop.loader(range(3)):
            loop.train(1)

    # In a thread of its own: what this looks for is a deadlock.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert loop.step_ns == [1]
    assert loop.clock.busy
