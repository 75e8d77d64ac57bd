import os
import signal
import subprocess
import sys
import threading

import pytest

from profkit.scripts import tracing

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


@pytest.fixture
def child() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        assert said.readline() == b"ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_takes_the_child_along(child: "subprocess.Popen[bytes]", number: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with tracing.terminated_by_exception():
            # Without this the signal would end the tests.
            assert signal.getsignal(number) is not signal.SIG_DFL
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            with pytest.raises(SystemExit) as ending:
                tracing._wait(child, None)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
        child.kill()
        child.wait()
    assert ending.value.code == 128 + number
    assert child.returncode == -signal.SIGTERM


def test_what_runs_on_when_the_terminal_is_closed_still_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with tracing.terminated_by_exception():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_child_that_takes_too_long_is_ended(child: "subprocess.Popen[bytes]") -> None:
    assert tracing._wait(child, 0.05) == -signal.SIGTERM


def test_a_child_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        said.readline()
    monkeypatch.setattr(tracing, "_PATIENCE_S", 0.05)
    assert tracing._wait(process, 0.05) == -signal.SIGKILL


def test_in_another_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def look() -> None:
        with tracing.terminated_by_exception():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
