"""Stack samples of this very process and its loader workers, taken by py-spy from outside.

py-spy runs as a child that looks at its parent. It costs the training what its pauses cost (it
stops the process to read a consistent stack), which is why a sampled pass gives shares and never
times.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO

from ..errors import ProbeError

START_LIMIT_S = 15.0
"""Longest wait until py-spy samples: it reads the interpreter's symbols first, 0.1 to 2 s here."""
STOP_LIMIT_S = 15.0
"""Longest wait for its file, which it writes only when it stops."""
SAMPLE_LIMIT_S = 1800
"""Longest sampling: py-spy then ends by itself, so that none lives on when its stop is missed."""

_SAMPLING = "Sampling process"
_PR_SET_PTRACER = 0x59616D61
_PTRACER_ANY = ctypes.c_ulong(-1).value

_tracer = 0
_fork_hook_set = False


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
    process, log = _start(out, rate_hz, limit_s, executable)
    try:
        yield
    except BaseException:
        _stop(process)
        log.close()
        raise
    stopped = _stop(process)
    with log:
        if not stopped:
            raise ProbeError(f"py-spy did not stop within {STOP_LIMIT_S:g} s: its samples are lost")
        if process.returncode != 0 or not out.is_file():
            raise ProbeError(_explain(_read(log), process.returncode))


def probe_ptrace(executable: str | None = None) -> str | None:
    """None where py-spy can read this process, else one line: the reason and what to do.

    Really tries: one stack of this process is read.
    """
    try:
        found = _find(executable)
    except ProbeError as error:
        return str(error)
    command = [found, "dump", "--pid", str(os.getpid())]
    with tempfile.TemporaryFile() as log, _traceable():
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
            )
            _allow(process.pid)
            code = process.wait(START_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"py-spy gave no stack within {START_LIMIT_S:g} s"
        except OSError as error:
            return _cannot_start(error)
        return None if code == 0 else _explain(_read(log), code)


def _start(
    out: Path, rate_hz: int, limit_s: int, executable: str | None
) -> tuple["subprocess.Popen[bytes]", IO[bytes]]:
    command = [_find(executable), "record", "--pid", str(os.getpid()), "--format", "raw"]
    command += ["--subprocesses", "--full-filenames", "--threads", "--idle"]
    command += ["--rate", str(rate_hz), "--duration", str(limit_s), "--output", str(out)]
    # py-spy opens its file only at the end, so what stands in its way is looked for now. And a
    # file left by an earlier pass would be taken for this one's.
    try:
        out.unlink(missing_ok=True)
        if not os.access(out.parent, os.W_OK):
            raise ProbeError("the stack samples cannot be written: their directory is missing")
    except OSError as error:
        raise ProbeError(f"the stack samples cannot be written ({error.strerror})") from error
    # A file and not a pipe: py-spy panics, and loses its samples, when nobody reads its words.
    log = tempfile.TemporaryFile()  # noqa: SIM115 # closed by whoever stops the process
    _allow(_PTRACER_ANY)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    except OSError as error:
        _allow(0)
        log.close()
        raise ProbeError(_cannot_start(error)) from error
    try:
        _allow(process.pid)
        _await_sampling(process, log)
    except BaseException:
        _stop(process)
        log.close()
        raise
    return process, log


def _await_sampling(process: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while _SAMPLING not in _read(log):
        if process.poll() is not None:
            raise ProbeError(_explain(_read(log), process.returncode))
        if time.monotonic() > deadline:
            raise ProbeError(f"py-spy did not begin to sample within {START_LIMIT_S:g} s")
        time.sleep(0.01)


def _stop(process: "subprocess.Popen[bytes]") -> bool:
    """End py-spy and wait; whether it ended by itself when asked. Leaves no process behind."""
    try:
        if process.poll() is None:
            # SIGTERM would lose the samples; Windows knows no other way than to end it.
            process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        process.wait(STOP_LIMIT_S)
        return True
    except subprocess.TimeoutExpired:
        return False
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        _allow(0)


def _find(executable: str | None) -> str:
    if executable is not None:
        return executable
    beside = Path(sys.executable).parent
    for place in (str(beside), str(beside / "Scripts"), None):
        if found := shutil.which("py-spy", path=place):
            return found
    raise ProbeError("py-spy is not installed: pip install py-spy")


@contextmanager
def _traceable() -> Iterator[None]:
    _allow(_PTRACER_ANY)
    try:
        yield
    finally:
        _allow(0)


def _allow(tracer: int) -> None:
    """Let the process `tracer` read this one where Yama lets only ancestors (scope 1).

    0 takes it back. Forked workers do not inherit it, so they say it again while it holds.
    Without any effect, and no error, where there is no Yama.
    """
    global _tracer, _fork_hook_set
    _tracer = tracer
    if not _fork_hook_set and sys.platform == "linux":
        _fork_hook_set = True
        os.register_at_fork(after_in_child=_allow_in_child)
    _set_ptracer(tracer)


def _allow_in_child() -> None:
    if _tracer:
        _set_ptracer(_tracer)


def _set_ptracer(tracer: int) -> None:
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(tracer), 0, 0, 0)
    except Exception:  # a libc without it: py-spy's own message then says what is missing
        return


def _read(log: IO[bytes]) -> str:
    if sys.platform == "win32":
        log.seek(0)
        return log.read().decode(errors="replace")
    # The child writes through the same file description: reading must not move its position.
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), size, 0).decode(errors="replace")


def _cannot_start(error: OSError) -> str:
    return f"py-spy cannot be started ({error.strerror}): pip install --force-reinstall py-spy"


def _explain(said: str, code: int | None) -> str:
    """One line on why py-spy failed, without this machine's paths, and what to do."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if any("permission denied" in line.lower() for line in lines):
        return f"py-spy may not read this process: {_rights_advice()}"
    reason = next((line for line in lines if line.lower().startswith("error")), None)
    reason = reason or next((line for line in reversed(lines) if _SAMPLING not in line), "no word")
    reason = re.sub(r"(?:[A-Za-z]:)?(?:[/\\][\w.+@-]+){2,}", "a file", reason)
    return f"py-spy ended with status {code} ({reason}): try `py-spy dump --pid` on any Python"


def _rights_advice() -> str:
    if sys.platform == "darwin":
        return "macOS lets only root do so: run with sudo"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "start the container with --cap-add SYS_PTRACE"
    try:
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    except OSError:
        scope = "unknown"
    if scope in ("1", "2"):
        return f"kernel.yama.ptrace_scope is {scope}: set it to 0 with sysctl, or run as root"
    if scope == "3":
        return "kernel.yama.ptrace_scope is 3, which forbids it until the next boot"
    return "run as root, or in a container with --cap-add SYS_PTRACE"
