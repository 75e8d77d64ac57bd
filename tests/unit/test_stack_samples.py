import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from profkit.analyze.stacks import attribute, parse_stacks, stack_costs, stage_samples
from profkit.errors import ProbeError
from profkit.probe import py_spy, stack_samples
from profkit.probe.marks import StageClock
from profkit.probe.stack_samples import Attempt, probe_ptrace, sample_stacks
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import StepTable

NO_PTRACE = probe_ptrace()
needs_ptrace = pytest.mark.skipif(NO_PTRACE is not None, reason=f"needs ptrace: {NO_PTRACE}")
posix = pytest.mark.skipif(os.name != "posix", reason="the fake py-spy is a shell script")
fork_warns = pytest.mark.filterwarnings(
    # Python 3.12 and later say so of any fork beside torch's threads.
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)

SHARE_TOLERANCE = 0.12
"""About three standard deviations of a share of a half in 170 samples, the fewest expected."""


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def spin_and_raise(error: Exception) -> None:
    spin(0.1)
    raise error


class SlowDataset(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> torch.Tensor:
        self.decode()
        return torch.zeros(3)

    def decode(self) -> None:
        spin(0.01)


def py_spy_children() -> list[str]:
    # Other tests leave children as well: multiprocessing's own helpers live on.
    children = psutil.Process().children()
    running = [each for each in children if each.status() != psutil.STATUS_ZOMBIE]
    return [each.name() for each in running if "py-spy" in each.name()]


@needs_ptrace
def test_sample_shares_are_the_shares_of_the_time_in_the_stages(tmp_path: Path) -> None:
    tables: list[StepTable] = []
    clock = StageClock(lambda steps, marks: tables.append(steps))
    with sample_stacks(tmp_path / "stacks", rate_hz=200):
        for _ in clock.steps(range(60)):
            clock.call("forward", spin, 0.008)
            clock.call("backward", spin, 0.004)
            clock.call("optimizer", spin, 0.002)
    clock.flush()
    spent = dict(
        zip(STAGES, StepTable.concatenate(tables).stage_ns.sum(axis=0).tolist(), strict=True)
    )
    seen = stage_samples(attribute(parse_stacks((tmp_path / "stacks").read_text())))
    timed = (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER)
    for stage in timed:
        true_share = spent[stage] / sum(spent[each] for each in timed)
        share = seen[stage] / sum(seen[each] for each in timed)
        assert share == pytest.approx(true_share, abs=SHARE_TOLERANCE), stage
    (cost, *_) = stack_costs((tmp_path / "stacks").read_text(), Stage.FORWARD, 60).costs
    assert cost.name == "spin"
    assert cost.source is not None
    assert cost.source.startswith("unit/test_stack_samples.py:")


@needs_ptrace
@fork_warns
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked only there")
def test_what_loader_workers_do_is_seen(tmp_path: Path) -> None:
    clock = StageClock(lambda *_: None)
    with sample_stacks(tmp_path / "stacks"):
        for _ in clock.steps(DataLoader(SlowDataset(), batch_size=4, num_workers=1)):
            pass
    drilldown = stack_costs((tmp_path / "stacks").read_text(), Stage.DATALOADER, 10)
    by_worker = [cost for cost in drilldown.costs if (cost.context or "").startswith("worker")]
    assert by_worker[0].name.endswith("spin")
    assert "SlowDataset.decode" in str(by_worker[0].context) or sys.version_info < (3, 11)
    # Beside it stands what the loop paid to receive batches, which varies from run to run.
    assert by_worker[0].share > 0.7 * sum(cost.share for cost in by_worker)
    assert "waited for its workers" in (drilldown.note or "")


@needs_ptrace
def test_an_exception_of_the_body_passes_and_leaves_no_child(tmp_path: Path) -> None:
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, sample_stacks(tmp_path / "stacks"):
        spin_and_raise(error)
    assert caught.value is error
    assert py_spy_children() == []
    assert parse_stacks((tmp_path / "stacks").read_text()).rows


@needs_ptrace
def test_sampling_ends_with_the_process_that_is_sampled(tmp_path: Path) -> None:
    script = (
        "import os, psutil, signal, sys\n"
        "from pathlib import Path\n"
        "from profkit.probe.stack_samples import sample_stacks\n"
        "with sample_stacks(Path(sys.argv[1])):\n"
        "    print(psutil.Process().children()[0].pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "stacks")]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while is_running(int(done.stdout)):
        assert time.monotonic() < deadline, "py-spy lives on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], str]:
    """A py-spy that runs a shell script and leaves its process id in `pid`."""

    def make(script: str) -> str:
        path = tmp_path / "py-spy"
        path.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def is_one_line(error: object, *words: str) -> bool:
    return "\n" not in str(error) and all(word in str(error) for word in words)


@posix
def test_no_rights_is_one_line_with_advice(fake: Callable[[str], str], tmp_path: Path) -> None:
    denied = fake(
        "echo 'Permission Denied: Try running again with elevated permissions' >&2; exit 1"
    )
    with pytest.raises(ProbeError) as error, sample_stacks(tmp_path / "stacks", executable=denied):
        pytest.fail("the body ran although nothing samples it")
    assert is_one_line(error.value, "may not read this process: ")
    assert not str(error.value).endswith(": ")
    reason = probe_ptrace(denied)
    assert reason is not None
    assert is_one_line(reason, "may not read this process: ")


@posix
def test_other_failures_keep_py_spys_reason_without_paths(
    fake: Callable[[str], str], tmp_path: Path
) -> None:
    odd = fake(
        "echo 'Error: no python in /home/me/bin/python\nstack backtrace:\n 1: x' >&2; exit 3"
    )
    with pytest.raises(ProbeError) as error, sample_stacks(tmp_path / "stacks", executable=odd):
        pass
    assert is_one_line(error.value, "status 3", "Error: no python in a file")
    assert "/home" not in str(error.value)


def test_a_missing_executable_is_one_line_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(py_spy.shutil, "which", lambda *_, **__: None)
    with pytest.raises(ProbeError, match="pip install py-spy"), sample_stacks(tmp_path / "stacks"):
        pass
    assert "pip install py-spy" in (probe_ptrace() or "")


@posix
def test_py_spy_that_dies_in_the_body_is_told_after_it(
    fake: Callable[[str], str], tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    dying = fake(
        "echo 'py-spy> Sampling process'\n"
        f"until [ -e '{begun}' ]; do sleep 0.01; done\n"
        "echo 'Error: gone'; exit 1"
    )

    def outlast() -> None:
        begun.touch()
        time.sleep(0.5)
        (tmp_path / "ended").touch()

    with (
        pytest.raises(ProbeError, match="Error: gone"),
        sample_stacks(tmp_path / "stacks", executable=dying),
    ):
        outlast()
    assert (tmp_path / "ended").exists()


def test_a_place_that_cannot_be_written_is_told_before_the_body(tmp_path: Path) -> None:
    out = tmp_path / "missing" / "stacks"
    with pytest.raises(ProbeError, match="cannot be written"), sample_stacks(out):
        pytest.fail("the body ran although its samples would be lost")


@posix
def test_the_error_of_the_body_wins_over_that_of_the_probe(
    fake: Callable[[str], str], tmp_path: Path
) -> None:
    dying = fake("echo 'py-spy> Sampling process'; exit 1")
    with pytest.raises(ValueError, match="mine"), sample_stacks(tmp_path / "s", executable=dying):
        raise ValueError("mine")


@posix
def test_py_spy_that_does_not_stop_is_killed(
    fake: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_samples, "STOP_LIMIT_S", 0.2)
    deaf = fake("trap '' INT; echo 'py-spy> Sampling process'; exec sleep 60")
    with (
        pytest.raises(ProbeError, match="did not stop"),
        sample_stacks(tmp_path / "s", executable=deaf),
    ):
        pass
    assert not is_running(int((tmp_path / "pid").read_text()))


@posix
def test_py_spy_that_does_not_begin_is_killed(
    fake: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_samples, "START_LIMIT_S", 0.2)
    mute = fake("exec sleep 60")
    with (
        pytest.raises(ProbeError, match="did not begin"),
        sample_stacks(tmp_path / "s", executable=mute),
    ):
        pass
    assert not is_running(int((tmp_path / "pid").read_text()))


@contextmanager
def failing(*, before: bool) -> Iterator[None]:
    if before:
        raise ProbeError("no rights")
    yield
    raise ProbeError("lost")


@pytest.mark.parametrize(("before", "gap"), [(True, "no rights"), (False, "lost")])
def test_an_attempt_runs_the_body_whatever_the_probe_does(before: bool, gap: str) -> None:
    ran = False
    with Attempt(failing(before=before)) as attempt:
        ran = True
    assert ran
    assert attempt.gap == gap


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("error", [ValueError("mine"), ProbeError("mine")])
def test_an_attempt_lets_the_bodys_exception_pass(before: bool, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, Attempt(failing(before=before)):
        raise error
    assert caught.value is error
