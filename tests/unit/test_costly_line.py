"""The line on which a stage was seen most often."""

from profkit.analyze.costly_line import costliest_frame
from profkit.schema.stage import Stage

RUNNER = ("StepClock.run_steps", "/x/profkit/probe/step_clock.py", 90)
TEST = ("test_a", "/home/me/tests/test_a.py", 3)
TRAIN = ("train", "/home/me/train.py", 20)
LOSS = ("loss_of", "/home/me/train.py", 41)
MODULE = ("Linear.forward", "/y/lib/python3.11/site-packages/torch/nn/modules/linear.py", 134)
PLUMBING = ("Module._call_impl", "/y/lib/python3.11/site-packages/torch/nn/modules/module.py", 7)
MARK = ("profkit_stage_forward", "/x/profkit/probe/hooks.py", 160)
FETCH = ("fetch_in_process", "/x/profkit/loop_lines.py", 70)


def test_the_innermost_line_of_the_users_own_code_counts() -> None:
    samples = {
        (Stage.FORWARD, (TEST, RUNNER, TRAIN, MARK, LOSS, PLUMBING, MODULE)): 5,
        (Stage.FORWARD, (TEST, RUNNER, TRAIN, MARK, PLUMBING)): 3,
        (Stage.BACKWARD, (TEST, RUNNER, TRAIN)): 50,
        (None, (TEST, RUNNER)): 50,
        (Stage.FORWARD, (TEST,)): 50,
    }
    found = costliest_frame(samples, Stage.FORWARD)
    assert found is not None
    frame, caller, count, total = found
    assert (frame.function, frame.line, count, total) == ("loss_of", 41, 5, 8)
    assert caller is not None
    assert caller.line == 20


def test_where_only_a_library_runs_its_innermost_line_counts() -> None:
    found = costliest_frame(
        {(Stage.DATALOADER, (TEST, RUNNER, MODULE, PLUMBING)): 2}, Stage.DATALOADER
    )
    assert found is not None
    assert (found[0].function, found[1]) == ("Linear.forward", None)


def test_what_workers_would_do_is_data_wait() -> None:
    found = costliest_frame({(None, (TEST, FETCH, LOSS)): 2}, Stage.DATALOADER)
    assert found is not None
    assert found[0].line == 41
    assert costliest_frame({(None, (TEST, FETCH, LOSS)): 2}, Stage.OTHER) is None


def test_a_copy_is_known_by_its_frame() -> None:
    copy = ("profkit_stage_transfer", "/x/profkit/probe/marks.py", 9)
    found = costliest_frame({(Stage.OTHER, (RUNNER, TRAIN, copy)): 2}, Stage.TRANSFER)
    assert found is not None
    assert found[0].line == 20


def test_without_a_sample_there_is_no_line() -> None:
    assert costliest_frame({}, Stage.FORWARD) is None
