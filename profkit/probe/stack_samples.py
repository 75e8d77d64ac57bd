"""Stack samples of this very process and its loader workers, taken by py-spy from outside.

py-spy runs as a child that looks at its parent. It costs the training what its pauses cost (it
stops the process to read a consistent stack), which is why a sampled pass gives shares and never
times.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType

from ..errors import ProbeError
from .py_spy import PySpy, allow, cannot_start, explain, find_py_spy, read_log, traceable

START_LIMIT_S = 15.0
"""Longest wait until py-spy samples: it reads the interpreter's symbols first, 0.1 to 2 s here."""
STOP_LIMIT_S = 15.0
"""Longest wait for its file, which it writes only when it stops."""
SAMPLE_LIMIT_S = 1800
"""Longest sampling: py-spy then ends by itself, so that none lives on when its stop is missed."""


class Attempt:
    """Runs a `with` body whether or not a probe works around it.

    Args:
        probe: a context manager of this package, not entered yet.

    `gap` is None, or says afterwards in one line why the probe did not work. Exceptions of the
    body pass unchanged.
    """

    def __init__(self, probe: AbstractContextManager[object]) -> None:
        self._probe = probe
        self._entered = False
        self.gap: str | None = None

    def __enter__(self) -> "Attempt":
        try:
            self._probe.__enter__()
            self._entered = True
        except ProbeError as error:
            self.gap = str(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._entered:
            return
        try:
            self._probe.__exit__(kind, error, trace)
        except ProbeError as failure:
            if failure is not error:
                self.gap = str(failure)


@contextmanager
def sample_stacks(
    out: Path,
    rate_hz: int = 100,
    *,
    limit_s: int = SAMPLE_LIMIT_S,
    executable: str | None = None,
) -> Iterator[None]:
    """Samples the stacks of this process and its children while the body runs.

    Args:
        out: file that py-spy's raw text is written to when the body ends; read it with
            `analyze.stack_rows.parse_stacks`. Every thread is in it, idle ones too: a wait is
            what is looked for.
        rate_hz: samples a second of each thread.
        limit_s: sampling ends by itself after so long; the file is then complete up to there.
        executable: py-spy to use; None finds the one installed beside this interpreter.

    Raises:
        ProbeError: before the body: py-spy is missing, has no rights, or does not start. After
            it: py-spy died or wrote nothing. Never in place of an exception of the body, with
            which whatever was sampled is still written where that is possible.
    """
    spy = PySpy(out, rate_hz, limit_s, executable, subprocesses=True)
    try:
        _await_sampling(spy)
        yield
    except BaseException:
        spy.stop(STOP_LIMIT_S)
        spy.close()
        raise
    stopped = spy.stop(STOP_LIMIT_S)
    failure = spy.failure
    spy.close()
    if not stopped:
        raise ProbeError(f"py-spy did not stop within {STOP_LIMIT_S:g} s: its samples are lost")
    if failure is not None:
        raise ProbeError(failure)


def probe_ptrace(executable: str | None = None) -> str | None:
    """None where py-spy can read this process, else one line: the reason and what to do.

    Really tries: one stack of this process is read.
    """
    try:
        found = find_py_spy(executable)
    except ProbeError as error:
        return str(error)
    command = [found, "dump", "--pid", str(os.getpid())]
    with tempfile.TemporaryFile() as log, traceable():
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
            allow(process.pid)
            code = process.wait(START_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"py-spy gave no stack within {START_LIMIT_S:g} s"
        except OSError as error:
            return cannot_start(error)
        return None if code == 0 else explain(read_log(log), code)


def _await_sampling(spy: PySpy) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not spy.has_begun:
        if spy.has_ended:
            raise ProbeError(spy.failure or "py-spy ended before it began")
        if time.monotonic() > deadline:
            raise ProbeError(f"py-spy did not begin to sample within {START_LIMIT_S:g} s")
        time.sleep(0.01)
