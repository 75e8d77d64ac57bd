import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import profkit
from profkit.errors import InputError, OutputError
from profkit.recorder import shown_command
from profkit.schema.stage import Stage
from profkit.store.records import read_run


def train(recorder: "profkit.Recorder", steps: int = 5) -> None:
    for _ in recorder.steps(range(steps)):
        with recorder.stage("forward"):
            pass


def test_a_loop_is_recorded_with_its_ending_and_the_probes_cost(tmp_path: Path) -> None:
    with profkit.record(tmp_path / "mine", warmup=2) as recorder:
        train(recorder)
    run = read_run(tmp_path / "mine")
    assert len(run.steps) == 5
    assert (run.manifest.name, run.manifest.ended) == ("mine", "completed")
    (clock,) = run.manifest.probes
    assert (clock.name, clock.steps) == ("clock", 5)
    assert clock.wall_ns is not None
    assert clock.step_ns is not None
    assert min(clock.wall_ns, clock.step_ns) > 0
    breakdown = profkit.report(tmp_path / "mine").runs[0].breakdown
    assert (breakdown.warmup, breakdown.stages[Stage.BACKWARD]) == (2, None)


def test_the_loops_own_exception_passes_and_is_named(tmp_path: Path) -> None:
    def divide() -> None:
        with profkit.record(tmp_path / "mine") as recorder:
            for batch in recorder.steps([2, 1, 0]):
                1 / batch

    with pytest.raises(ZeroDivisionError):
        divide()
    run = read_run(tmp_path / "mine")
    assert run.manifest.ended == "stopped by ZeroDivisionError"
    assert len(run.steps) >= 2


def test_a_run_that_is_there_is_kept(tmp_path: Path) -> None:
    with profkit.record(tmp_path / "mine") as recorder:
        train(recorder)
    with pytest.raises(OutputError, match="already exists"), profkit.record(tmp_path / "mine"):
        pass
    assert len(read_run(tmp_path / "mine").steps) == 5
    with profkit.record(tmp_path / "mine", overwrite=True) as recorder:
        train(recorder, 3)
    assert len(read_run(tmp_path / "mine").steps) == 3


def test_a_directory_that_vanishes_costs_one_warning_and_no_training(tmp_path: Path) -> None:
    done = []

    def run() -> None:
        with profkit.record(tmp_path / "mine") as recorder:
            for _ in range(3):
                train(recorder)
                recorder.clock.flush()
                shutil.rmtree(tmp_path / "mine", ignore_errors=True)
                done.append(recorder)

    with pytest.warns(RuntimeWarning, match="the training goes on") as caught:
        run()
    assert len(done) == 3
    assert len(caught) == 1
    assert any("writing stopped after" in gap for gap in done[0].manifest.gaps)


def test_warnings_that_are_errors_do_not_reach_the_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with profkit.record(tmp_path / "mine") as recorder:
            shutil.rmtree(tmp_path / "mine")
            train(recorder)
    assert "the training goes on" in capfd.readouterr().err


def test_a_handler_may_end_the_run_amid_a_write(tmp_path: Path) -> None:
    """A signal's handler runs in the very thread that it interrupts, which may hold the lock."""
    recorder = profkit.record(tmp_path / "mine")
    with recorder:
        append = recorder._writer.append

        def interrupted(*tables: object) -> None:
            recorder._writer.append = append  # type: ignore[method-assign]
            append(*tables)  # type: ignore[arg-type]
            recorder.close("ended by os._exit(4)")

        recorder._writer.append = interrupted  # type: ignore[method-assign, assignment]
        train(recorder)
        recorder.clock.flush()
        run = read_run(tmp_path / "mine")
        assert (len(run.steps), run.manifest.ended) == (5, "ended by os._exit(4)")


def test_bad_input_is_said_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="warmup=-1"):
        profkit.record(tmp_path / "mine", warmup=-1)
    with profkit.record(tmp_path / "mine") as recorder, pytest.raises(InputError, match="'loss'"):
        recorder.stage("loss")


def test_recording_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with profkit.record(tmp_path / "mine") as recorder:
            train(recorder)
    assert capfd.readouterr() == ("", "")


def test_recording_draws_no_random_number_and_changes_no_result(tmp_path: Path) -> None:
    """The same losses to the bit, and the same random streams, with and without profkit."""
    script = """
import random, sys
import numpy as np, torch

def train(watched):
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    def loop(batches, stage):
        for x in batches:
            with stage("forward"):
                loss = model(x).square().sum()
            with stage("backward"):
                loss.backward()
            with stage("optimizer"):
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
    data = [torch.randn(4, 8) for _ in range(50)]
    if watched:
        import profkit
        with profkit.record(sys.argv[1]) as recorder:
            loop(recorder.steps(data), recorder.stage)
        profkit.report(sys.argv[1])
    else:
        from contextlib import nullcontext
        loop(data, lambda name: nullcontext())
    return losses, torch.get_rng_state().tolist()

np.random.seed(0); random.seed(0)
before = np.random.get_state()[1].tolist(), random.getstate()
assert train(False) == train(True)
assert before == (np.random.get_state()[1].tolist(), random.getstate())
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "mine")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_an_iterator_that_is_kept_is_stated_and_costs_no_memory(tmp_path: Path) -> None:
    with profkit.record(tmp_path / "mine") as recorder:
        kept = iter(recorder.steps(range(5)))
        next(kept)
        for _ in range(50):
            train(recorder, 2000)
        assert len(recorder.clock._events) < 500_000
    (gap,) = read_run(tmp_path / "mine").manifest.gaps
    assert "100000 batches" in gap
    assert "was its iterator kept?" in gap
    del kept


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["/home/me/train.py", "--lr", "0.1"], "train.py --lr 0.1"),
        (["profkit", "trace", "--data-dir", "/data/mnist"], "profkit trace --data-dir mnist"),
        (["t.py", "--out=/home/me/x", "a/b"], "t.py --out=x a/b"),
        (["t.py", "--api-key", "s3cret", "--token=abc", "z"], "t.py --api-key *** --token=*** z"),
    ],
)
def test_a_command_shows_no_directories_and_no_secrets(given: list[str], shown: str) -> None:
    assert shown_command(given) == shown
