"""py-spy as a child that looks at this very process: its start, its end, and what it says."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import ProbeError
from ..interruption import pass_on

_SAMPLING = "Sampling process"
_PR_SET_PTRACER = 0x59616D61
_KILL_LIMIT_S = 2.0
"""A killed process is gone at once, unless it hangs in the system: then so would whoever waits."""
_PTRACER_ANY = ctypes.c_ulong(-1).value

_tracer = 0
_fork_hook_set = False
_running: set["subprocess.Popen[bytes]"] = set()


class PySpy:
    """One `py-spy record` of this process, started and not waited for.

    Every thread is sampled, idle ones too: a wait is what is looked for. py-spy writes its file
    only when it ends: by itself, on SIGINT, or with the process that it looks at.

    Args:
        out: file for the raw text; read it with `analyze.stack_rows.parse_stacks`.
        rate_hz: samples a second of each thread.
        limit_s: py-spy ends by itself after so long, so that none lives on when its stop is
            missed.
        executable: py-spy to use; None finds the one installed beside this interpreter.
        subprocesses: sample the children too.

    Raises:
        ProbeError: py-spy is missing or cannot be started, or `out` cannot be written.
    """

    def __init__(
        self,
        out: Path,
        rate_hz: int,
        limit_s: int,
        executable: str | None = None,
        *,
        subprocesses: bool,
    ) -> None:
        command = [find_py_spy(executable), "record", "--pid", str(os.getpid()), "--format", "raw"]
        command += ["--subprocesses"] if subprocesses else []
        command += ["--full-filenames", "--threads", "--idle", "--rate", str(rate_hz)]
        command += ["--duration", str(limit_s), "--output", str(out)]
        self._out = out
        # py-spy opens its file only at the end, so what stands in its way is looked for now. And
        # a file left by an earlier pass would be taken for this one's.
        try:
            out.unlink(missing_ok=True)
            if not os.access(out.parent, os.W_OK):
                raise ProbeError("the stack samples cannot be written: their directory is missing")
            # A file and not a pipe: py-spy panics, and loses its samples, when nobody reads its
            # words.
            self._log = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        except OSError as error:
            raise ProbeError(f"the stack samples cannot be written ({error.strerror})") from error
        allow(_PTRACER_ANY, children=subprocesses)
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
            )
        except OSError as error:
            allow(0)
            self._log.close()
            raise ProbeError(cannot_start(error)) from error
        _running.add(self._process)
        allow(self._process.pid, children=subprocesses)

    @property
    def has_begun(self) -> bool:
        """Whether it samples, or did."""
        return _SAMPLING in read_log(self._log)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone; its file is complete by then."""
        return self._process.poll() is not None

    @property
    def failure(self) -> str | None:
        """One line on why it gave no file; None if it did. Only once it has ended."""
        if self._process.returncode == 0 and self._out.is_file():
            return None
        return explain(read_log(self._log), self._process.returncode)

    def stop(self, limit_s: float) -> bool:
        """End it and wait; whether it ended when asked. If not, it is killed."""
        try:
            if self._process.poll() is None:
                # SIGTERM would lose the samples; Windows knows no other way than to end it.
                self._process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            self._process.wait(limit_s)
            return True
        except subprocess.TimeoutExpired:
            return False
        finally:
            if self._process.poll() is None:
                self._process.kill()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_KILL_LIMIT_S)
            allow(0)

    def close(self) -> None:
        """Forget it, once it has ended."""
        _running.discard(self._process)
        self._log.close()
        allow(0)


def find_py_spy(executable: str | None = None) -> str:
    """Path of py-spy: `executable` if given, else that beside this interpreter, or any other.

    Raises:
        ProbeError: there is none.
    """
    if executable is not None:
        return executable
    beside = Path(sys.executable).parent
    for place in (str(beside), str(beside / "Scripts"), None):
        if found := shutil.which("py-spy", path=place):
            return found
    raise ProbeError("py-spy is not installed: pip install py-spy")


@contextmanager
def traceable() -> Iterator[None]:
    """Let any process read this one meanwhile, where Yama lets only ancestors (scope 1)."""
    allow(_PTRACER_ANY)
    try:
        yield
    finally:
        allow(0)


def allow(tracer: int, *, children: bool = True) -> None:
    """Let the process `tracer` read this one where Yama lets only ancestors (scope 1).

    0 takes it back. Forked workers do not inherit it, so with `children` they say it again while
    it holds. Without any effect, and no error, where there is no Yama.
    """
    global _tracer, _fork_hook_set
    _tracer = tracer if children else 0
    if not _fork_hook_set and sys.platform != "win32":
        _fork_hook_set = True
        os.register_at_fork(after_in_child=_after_fork_in_child)
    _set_ptracer(tracer)


def _after_fork_in_child() -> None:
    # They are the parent's: a child must not wait for them, nor warn that they still run.
    for process in _running:
        process.returncode = 0
    _running.clear()
    if _tracer:
        _set_ptracer(_tracer)


def _set_ptracer(tracer: int) -> None:
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(tracer), 0, 0, 0)
    except Exception as error:  # a libc without it: py-spy's own message says what is missing
        pass_on(error)


def read_log(log: IO[bytes]) -> str:
    """What a child wrote to a file that it still may write to."""
    if sys.platform == "win32":
        log.seek(0)
        return log.read().decode(errors="replace")
    # The child writes through the same file description: reading must not move its position.
    size = os.fstat(log.fileno()).st_size
    return os.pread(log.fileno(), size, 0).decode(errors="replace")


def cannot_start(error: OSError) -> str:
    """One line on why py-spy could not be started."""
    return f"py-spy cannot be started ({error.strerror}): pip install --force-reinstall py-spy"


def explain(said: str, code: int | None) -> str:
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
