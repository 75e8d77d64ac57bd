"""Runs a user's program in this process as `python` would, and says how it ended."""

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, NoReturn

from ..probe.own_frames import without_own_frames
from .ending import INTERRUPTED, Ending, Outcome, complain, leave, settle
from .main_module import Program
from .shadows import put_back, set_aside
from .target import Target, check_target, search_path

__all__ = ["Ending", "Target", "check_target", "run_as_main"]

_C_INT = range(-(2**31), 2**31)


def run_as_main(target: Target, *, at_end: Callable[[Ending], None]) -> NoReturn:
    """Run a program as `__main__`, then end this process as `python` would have ended.

    What the program raised is shown first, then its other threads are waited for, then `at_end`
    is called, then the process goes on to its end: `atexit`, clean-up, the same exit code or
    signal. It goes there by an exception that callers must let pass: `SystemExit`, or for
    Ctrl-C a `BaseException` of its own. Forked children that leave the program by its end come
    this way too, so a caller must hold nothing that is undone on the way out.

    A program can still tell: `inspect.stack()` goes on below its first frame, the recursion limit
    is higher by those frames, modules that profkit needed are in `sys.modules`, and `os._exit` is
    a Python function.

    Args:
        target: the program.
        at_end: called once, in this process only; also when the program calls `os._exit`, but
            not when a signal kills it, nor when it replaces itself (`os.exec*`). What it raises
            becomes one line on stderr. It finds the `sys.path` from before; the working
            directory, the streams and all else are as the program left them. It must join the
            threads that it starts.

    Raises:
        InputError: there is no such program; nothing has been done then.
    """
    check_target(target)
    end = _End(at_end)
    path = search_path(target)
    program = Program(target)
    program.enter()
    sys.path[:] = path
    if path:
        end.aside = set_aside(path[0])
    _tell_before_os_exit(end)
    try:
        outcome = _outcome(program)
        ending = _after_threads(outcome)
    except KeyboardInterrupt as error:
        # It met one of the few lines between the program's and Python's own.
        outcome = settle(error.with_traceback(None))
        ending = outcome.ending
    with _open_threading():
        end.tell(ending)
    leave(outcome)


class _End:
    """Tells how the program ended, once, in the process that began it."""

    def __init__(self, at_end: Callable[[Ending], None]) -> None:
        self.aside: dict[str, ModuleType] = {}
        self._untold = [at_end]
        self._process = os.getpid()
        self._path = list(sys.path)

    def tell(self, ending: Ending) -> None:
        if os.getpid() != self._process:
            return
        try:
            at_end = self._untold.pop()
        except IndexError:
            return
        try:
            if sys.stdout is not None:
                # What the program printed comes before what is said about it.
                with suppress(Exception):
                    sys.stdout.flush()
            with put_back(self.aside, self._path):
                at_end(ending)
        except BaseException as error:
            complain("could not finish the run", error)


def _outcome(program: Program) -> Outcome:
    error = program.run()
    outcome = settle(error)
    if not isinstance(error, SystemExit):
        program.end_of_file()
    return outcome


def _after_threads(outcome: Outcome) -> Ending:
    """How the program ended once its threads, which may be what trains, have ended too."""
    threading = sys.modules.get("threading")
    shutdown = getattr(threading, "_shutdown", None)
    if shutdown is None:
        return outcome.ending
    try:
        # What Python calls at its end. It runs once, so that its own call finds all done.
        shutdown()
    except BaseException as error:
        error.__traceback__ = without_own_frames(error.__traceback__)
        _ignore(error, threading)
    # Since 3.13 the call itself shows the Ctrl-C that ended it.
    left = [thread for thread in _others(threading) if not thread.daemon]
    return Ending(INTERRUPTED, outcome.ending.exit_code) if left else outcome.ending


@contextmanager
def _open_threading() -> Iterator[None]:
    """Let modules be imported that register with `threading`, which refuses that after its end."""
    threading: Any = sys.modules.get("threading")
    closed = getattr(threading, "_SHUTTING_DOWN", False)
    if closed:
        threading._SHUTTING_DOWN = False
    try:
        yield
    finally:
        if closed:
            threading._SHUTTING_DOWN = True


def _others(threading: Any) -> list[Any]:
    with suppress(Exception):
        return [one for one in threading.enumerate() if one is not threading.main_thread()]
    return []


def _ignore(error: BaseException, where: object) -> None:
    """Show an exception that Python shows at its end but does not fail for."""
    kinds: list[type] = []
    before = sys.unraisablehook
    # Python gives the type of the hook's argument no name; an argument has it.
    sys.unraisablehook = lambda unraisable: kinds.append(type(unraisable))
    try:
        _Raising()
    finally:
        sys.unraisablehook = before
    with suppress(Exception):
        before(kinds[0]((type(error), error, error.__traceback__, None, where)))


class _Raising:
    def __del__(self) -> None:
        raise RuntimeError


def _tell_before_os_exit(end: _End) -> None:
    """Have `os._exit` say so first: after it, nothing else is called."""
    leave_at_once = os._exit

    @functools.wraps(leave_at_once)
    def _exit(status: int) -> NoReturn:
        if isinstance(status, int) and status in _C_INT:
            end.tell(Ending(f"ended by os._exit({int(status)})", status & 0xFF))
        leave_at_once(status)

    os._exit = _exit
