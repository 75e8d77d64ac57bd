import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import ClassVar

import pytest

from profkit.scripts import tracing

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


class Child(subprocess.Popen[bytes]):
    """It is ready when it is made."""

    made: ClassVar[list["Child"]] = []
    meanwhile: ClassVar[Callable[[], object] | None] = None

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__(command, stdout=subprocess.PIPE)
        self.made.append(self)
        assert self.stdout is not None
        with self.stdout as said:
            assert said.readline() == b"ready\n"
        if Child.meanwhile is not None:
            Child.meanwhile()


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Child]]:
    monkeypatch.setattr(Child, "made", [])
    monkeypatch.setattr(subprocess, "Popen", Child)
    yield Child.made
    for child in Child.made:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("delay_s", [0.0, 0.05], ids=["while it starts", "while it runs"])
def test_a_signal_takes_the_child_along(
    children: list[Child], monkeypatch: pytest.MonkeyPatch, number: int, delay_s: float
) -> None:
    send = partial(os.kill, os.getpid(), number)
    monkeypatch.setattr(
        Child, "meanwhile", threading.Timer(delay_s, send).start if delay_s else send
    )
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with tracing.terminated_by_exception():
            # Without this the signal would end the tests.
            assert signal.getsignal(number) is not signal.SIG_DFL
            with pytest.raises(SystemExit) as ending:
                tracing._run([sys.executable, "-c", SLEEP], None)
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert ending.value.code == 128 + number
    assert [child.returncode for child in children] == [-signal.SIGTERM]


def test_what_runs_on_when_the_terminal_is_closed_still_does() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with tracing.terminated_by_exception():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_child_that_takes_too_long_is_ended(children: list[Child]) -> None:
    assert tracing._run([sys.executable, "-c", SLEEP], 0.05) == -signal.SIGTERM
    assert len(children) == 1


def test_a_child_that_does_not_listen_is_killed(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
    monkeypatch.setattr(tracing, "_PATIENCE_S", 0.05)
    assert tracing._run([sys.executable, "-c", deaf], 0.05) == -signal.SIGKILL
    assert len(children) == 1


def test_in_another_thread_signals_are_left_alone() -> None:
    seen: list[object] = []

    def look() -> None:
        with tracing.terminated_by_exception():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]
