"""Windows of stack samples: when they come, who takes them, and what never happens."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from conftest import FakeTime
from profkit.analyze.other_places import other_places
from profkit.probe import sample_windows
from profkit.probe.sample_windows import SampleWindows
from profkit.probe.stack_samples import probe_ptrace
from profkit.store.windows import SAMPLES, read_windows

NO_PTRACE = probe_ptrace()
needs_ptrace = pytest.mark.skipif(NO_PTRACE is not None, reason=f"needs ptrace: {NO_PTRACE}")
posix = pytest.mark.skipif(os.name != "posix", reason="the fake py-spy is a shell script")
fork_warns = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
ROOT = Path(__file__).parents[2]
S = 1_000_000_000
TICK = S // 2
ANY_PATIENCE_S = 20
"""Far beyond what anything here takes: a limit for what would otherwise never end."""


@pytest.fixture
def fake(tmp_path: Path) -> Callable[[str], str]:
    """A py-spy that runs a shell script: `$out` is the file, and its calls are kept in `calls`."""

    def make(script: str) -> str:
        path = tmp_path / "py-spy"
        begin = f'#!/bin/sh\necho "$$ $*" >> {tmp_path}/calls\nfor out; do :; done\n'
        path.write_text(begin + script + "\n")
        path.chmod(0o755)
        return str(path)

    return make


WRITES = "echo 'thread (1): MainThread;f (/a/b.py:3) 6' > \"$out\""
DENIED = "echo 'Permission Denied: Try running again with elevated permissions' >&2; exit 1"


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of the sampling thread that take a tenth of a second of real time."""
    real = sample_windows.ThreadSamples
    monkeypatch.setattr(sample_windows, "ThreadSamples", lambda rate, _: real(rate, 0.1))


def calls(tmp_path: Path) -> list[str]:
    path = tmp_path / "calls"
    return path.read_text().splitlines() if path.exists() else []


def tick_until(windows: SampleWindows, disturbed: bool) -> None:
    """Tick, in real time, until a tick says so."""
    deadline = time.monotonic() + ANY_PATIENCE_S
    while windows.tick() is not disturbed:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begin(windows: SampleWindows, clock: FakeTime) -> None:
    """Tick, in fake time, until a window is due."""
    ticks = 0
    while not windows.tick():
        clock.pass_ns(TICK)
        ticks += 1
        assert ticks < 100


@posix
def test_windows_come_at_growing_times_and_disturb_until_they_ended(
    fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime
) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=fake(WRITES))
    begun_s = []
    was_open = False
    for _ in range(2 * 3300):
        is_open = windows.tick()
        if is_open and not was_open:
            begun_s.append((fake_time.now_ns - 1000) / S)
            tick_until(windows, disturbed=False)  # the real process ends; fake time stands still
            is_open = False
        was_open = is_open
        fake_time.pass_ns(TICK)
    assert begun_s == [2, 15, 90, 540, 3240]
    assert (windows.count, windows.source, windows.gap) == (5, "py-spy", None)
    assert [row.source for row in read_windows(tmp_path)] == ["py-spy"] * 5
    assert len(calls(tmp_path)) == 5
    assert all("--duration 2 " in call and "--rate 50 " in call for call in calls(tmp_path))
    assert not any("--subprocesses" in call for call in calls(tmp_path))


@posix
def test_what_was_missed_is_not_caught_up(
    fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime
) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=fake(WRITES))
    windows.tick()
    fake_time.pass_ns(700 * S)  # a compilation
    assert windows.tick()
    tick_until(windows, disturbed=False)
    for _ in range(2 * 2000):
        fake_time.pass_ns(TICK)
        assert not windows.tick()
    assert windows.count == 1


@posix
def test_long_steps_get_windows_of_two_steps(
    fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime
) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=fake(WRITES))
    windows.tick()
    fake_time.pass_ns(5 * S)
    assert windows.tick()
    assert "--duration 10 " in calls_soon(tmp_path)
    windows.stop()


def calls_soon(tmp_path: Path) -> str:
    deadline = time.monotonic() + ANY_PATIENCE_S
    while not calls(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return calls(tmp_path)[0]


@posix
def test_a_tick_does_not_wait_for_a_slow_py_spy_and_ends_one_that_hangs(
    fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime, short: None
) -> None:
    windows = SampleWindows(
        tmp_path, fake_time, executable=fake("trap '' INT; exec sleep 60 >/dev/null 2>&1")
    )
    began = time.monotonic()
    begin(windows, fake_time)
    pid = int(calls_soon(tmp_path).split()[0])
    for _ in range(12):  # within its start-up time
        fake_time.pass_ns(S)
        assert windows.tick()
    assert psutil.pid_exists(pid)
    assert time.monotonic() - began < ANY_PATIENCE_S  # and not the minute that it would take
    fake_time.pass_ns(S)
    assert windows.tick()  # the thread has taken over
    assert not is_running(pid)
    assert windows.source == "thread"
    assert "no samples after 12 s" in (windows.gap or "")
    tick_until(windows, disturbed=False)
    assert windows.count == 1


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@posix
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (DENIED, "may not read this process"),
        ("echo 'Error: no python in /home/me/python'; exit 3", "no python in a file"),
        ("exit 0", "status 0 (no word)"),
    ],
)
def test_a_thread_steps_in_where_py_spy_fails_and_stays(
    script: str,
    reason: str,
    fake: Callable[[str], str],
    tmp_path: Path,
    fake_time: FakeTime,
    short: None,
) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=fake(script))
    begin(windows, fake_time)
    assert windows.source == "py-spy"
    tick_until(windows, disturbed=False)
    assert (windows.source, windows.count) == ("thread", 1)
    assert reason in (windows.gap or "")
    assert "\n" not in (windows.gap or "")
    begin(windows, fake_time)
    tick_until(windows, disturbed=False)
    assert windows.count == 2
    assert len(calls(tmp_path)) == 1
    facts = windows.facts(7)
    assert (facts.name, facts.steps, facts.gap) == ("samples", 7, None)
    assert "2 windows by thread" in (facts.detail or "")


def test_a_thread_takes_the_window_where_there_is_no_py_spy(
    tmp_path: Path, fake_time: FakeTime, short: None
) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=str(tmp_path / "none"))
    begin(windows, fake_time)
    assert windows.source == "thread"
    tick_until(windows, disturbed=False)
    (window,) = read_windows(tmp_path)
    assert window.source == "thread"
    assert "tick_until" in str(other_places([window], 1).costs)
    assert "cannot be started" in (windows.gap or "")


@posix
def test_stop_ends_a_window_and_no_other_begins(
    fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime
) -> None:
    ends = f"ends() {{ {WRITES}; exit 0; }}; trap ends INT; touch {tmp_path}/ready"
    executable = fake(f"{ends}; while :; do sleep 0.02; done")
    windows = SampleWindows(tmp_path, fake_time, executable=executable)
    begin(windows, fake_time)
    deadline = time.monotonic() + ANY_PATIENCE_S
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    windows.stop()
    assert (windows.count, windows.gap, len(read_windows(tmp_path))) == (1, None, 1)
    fake_time.pass_ns(10_000 * S)
    assert not windows.tick()
    windows.stop()
    assert len(calls(tmp_path)) == 1


@posix
def test_stop_kills_what_does_not_end(
    fake: Callable[[str], str],
    tmp_path: Path,
    fake_time: FakeTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sample_windows, "STOP_LIMIT_S", 0.1)
    windows = SampleWindows(
        tmp_path, fake_time, executable=fake("trap '' INT; while :; do sleep 0.02; done")
    )
    begin(windows, fake_time)
    pid = int(calls_soon(tmp_path).split()[0])
    windows.stop()
    assert not is_running(pid)
    # Not a gap of its own: the run was over.
    assert windows.facts(0).gap == "the run was too short for a sample"


def test_stop_keeps_what_the_thread_has_seen(tmp_path: Path, fake_time: FakeTime) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=str(tmp_path / "none"))
    begin(windows, fake_time)
    time.sleep(0.2)
    windows.stop()
    assert windows.count == 1
    (window,) = read_windows(tmp_path)
    seen = sum(int(line.rpartition(" ")[2]) for line in window.text.splitlines())
    assert 0 < seen < 100  # of a whole window


def test_a_run_that_is_stopped_before_its_first_window_leaves_nothing(
    tmp_path: Path, fake_time: FakeTime
) -> None:
    windows = SampleWindows(tmp_path, fake_time)
    assert not windows.tick()
    windows.stop()
    assert list(tmp_path.iterdir()) == []
    assert (windows.count, windows.source) == (0, None)


@posix
def test_a_directory_that_is_gone_is_a_gap(
    fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime
) -> None:
    windows = SampleWindows(tmp_path / "gone", fake_time, executable=fake(WRITES))
    for _ in range(60):
        assert not windows.tick()
        fake_time.pass_ns(TICK)
    assert "No such file or directory" in (windows.gap or "")
    assert windows.facts(0).gap == windows.gap
    assert not (tmp_path / "gone").exists()


def test_a_directory_that_vanishes_in_a_window_is_a_gap(
    tmp_path: Path, fake_time: FakeTime, short: None
) -> None:
    windows = SampleWindows(tmp_path, fake_time, executable=str(tmp_path / "none"))
    begin(windows, fake_time)
    (tmp_path / SAMPLES).rmdir()
    tick_until(windows, disturbed=False)
    windows.stop()
    assert "ended after 0 windows (No such file or directory)" in (windows.gap or "")


@posix
@fork_warns
@pytest.mark.parametrize("by_thread", [False, True])
def test_a_forked_child_leaves_the_window_to_its_parent(
    by_thread: bool, fake: Callable[[str], str], tmp_path: Path, fake_time: FakeTime
) -> None:
    script = f"sleep 0.5; {WRITES}"
    executable = str(tmp_path / "none") if by_thread else fake(script)
    windows = SampleWindows(tmp_path, fake_time, executable=executable)
    begin(windows, fake_time)
    child = os.fork()
    if child == 0:
        quiet = not windows.tick()
        windows.stop()
        os._exit(0 if quiet else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert windows.tick()  # it goes on
    tick_until(windows, disturbed=False)
    assert (windows.count, len(read_windows(tmp_path))) == (1, 1)


SCRIPT = """
import sys, time
from pathlib import Path
from profkit.probe import sample_windows
from profkit.probe.marks import StageClock
from profkit.probe.sample_windows import SampleWindows

sample_windows.FIRST_TIMES_S, sample_windows.GROWTH = (0.05,), 10_000
sample_windows.LENGTH_S, sample_windows.RATE_HZ = 1, 200

def log_metrics():
    began = time.perf_counter()
    while time.perf_counter() < began + 0.004:
        pass
    return time.perf_counter() - began

def save():
    began = time.perf_counter()
    while time.perf_counter() < began + 0.002:
        pass
    return time.perf_counter() - began

def work():
    end = time.perf_counter() + 0.003
    while time.perf_counter() < end:
        pass

def main():
    windows = SampleWindows(Path(sys.argv[1]), executable=sys.argv[2] or None)
    clock = StageClock(lambda *_: None)
    give_up = time.monotonic() + 60
    due = logging = saving = 0.0
    for _ in clock.steps(iter(int, 1)):
        clock.call("forward", work)
        logging += log_metrics()
        saving += save()
        if time.monotonic() >= due:
            windows.tick()
            due = time.monotonic() + 0.05
        if windows.count or time.monotonic() > give_up:
            break
    windows.stop()
    print(windows.source, logging / (logging + saving))

main()
"""


@pytest.mark.parametrize("by_thread", [pytest.param(False, marks=needs_ptrace), True])
def test_the_costliest_place_of_a_real_script_is_named(by_thread: bool, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    executable = str(tmp_path / "none") if by_thread else ""
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), executable],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    source, share = done.stdout.split()
    assert source == ("thread" if by_thread else "py-spy")
    found = other_places(read_windows(tmp_path), 1)
    first, second, *_ = found.costs
    assert (first.name, second.name) == ("log_metrics", "save")
    lines = SCRIPT.splitlines()
    at = int((first.source or "").rpartition(":")[2])
    assert lines.index("def log_metrics():") < at <= lines.index("def save():")
    # Four standard deviations of it in the 130 samples that are to be expected.
    assert first.share / (first.share + second.share) == pytest.approx(float(share), abs=0.17)
    # The forward pass took a third of the time, and is a stage: none of it is here.
    assert not any(cost.name == "work" for cost in found.costs)


BESIDE = """
import os, sys, threading, time
from profkit.probe.thread_samples import ThreadSamples

threading.setprofile(lambda *_: sys.exit("seen"))
samples = ThreadSamples(50, 60)
time.sleep(0.1)
assert threading.active_count() == 1
if sys.argv[1] == "fork":
    if os.fork() == 0:
        sys.exit(0)  # with all that runs at the interpreter's end
    assert os.wait()[1] == 0
    assert not samples.has_ended
"""


@pytest.mark.parametrize(
    "how", ["exit", pytest.param("fork", marks=posix)], ids=["left running", "forked"]
)
def test_the_sampling_thread_is_neither_seen_nor_in_the_way_of_the_end(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BESIDE, how],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
