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


def test_sigterm_takes_the_child_along(child: "subprocess.Popen[bytes]") -> None:
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(SystemExit) as ending, tracing.terminated_by_exception():
        tracing._wait(child, None)
    assert ending.value.code == 128 + signal.SIGTERM
    assert child.returncode == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


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
