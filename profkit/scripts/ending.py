"""How a program ended: shown as Python shows it, in words for a report, and repeated exactly."""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from ..probe.own_frames import strip, without_own_frames

INTERRUPTED = "interrupted (Ctrl-C)"
_C_LONG = range(-(2**63), 2**63)
_LONGEST_NAME = 80
_LONGEST_LINE = 300
_display = sys.__excepthook__


@dataclass(frozen=True, slots=True)
class Ending:
    """How a program ended.

    Attributes:
        words: `completed`, `exit code 3`, `stopped by ValueError`, `interrupted (Ctrl-C)`,
            `ended by os._exit(3)`.
        exit_code: as `subprocess` gives it: 0 to 255, or minus the signal that ends the process.
    """

    words: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """An ending, and what Python must be told so that the process ends like that.

    Attributes:
        code: what `SystemExit` carries; None where the process dies of Ctrl-C.
    """

    ending: Ending
    code: int | None


class _Interrupted(BaseException):
    """Ends the process by SIGINT, once it has got past everything that catches errors."""


def settle(error: BaseException | None) -> Outcome:
    """Show what a program raised as Python does at its end, and say how it ended.

    Args:
        error: what came out of the program, with its traceback; None if it ran to its end.
    """
    if error is None:
        return Outcome(Ending("completed", 0), 0)
    if isinstance(error, SystemExit):
        code = _shown_exit(error)
        words = f"exit code {_as_seen(code)}" if _as_seen(code) else "completed"
        return Outcome(Ending(words, _as_seen(code)), code)
    hook_code = _show(error)
    interrupted = type(error) is KeyboardInterrupt
    words = INTERRUPTED if interrupted else f"stopped by {plain(type(error).__name__)}"
    if hook_code is not None:
        return Outcome(Ending(words, _as_seen(hook_code)), hook_code)
    if interrupted:
        return Outcome(Ending(words, -signal.SIGINT), None)
    return Outcome(Ending(words, 1), 1)


def leave(outcome: Outcome) -> NoReturn:
    """End the process as Python itself would: `atexit` and clean-up, then code or signal."""
    if outcome.code is not None:
        raise SystemExit(outcome.code)
    # Python dies by SIGINT at the very end if the code that ran last at top level was
    # interrupted; code that is run from a string counts as such.
    with suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt", {})
    _end_silently()
    raise _Interrupted


def plain(text: str, limit: int = _LONGEST_NAME) -> str:
    """Text from outside as one printable line of bounded length."""
    # Not `render`'s: that one imports numpy, which the program may not have wanted.
    clean = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"


def complain(what: str, error: BaseException) -> None:
    """Write one line on stderr, if there still is one."""
    stream = sys.stderr
    if stream is None:
        return
    with suppress(Exception):
        text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
        stream.write(f"profkit: {what}: {plain(text, _LONGEST_LINE)}\n")
        stream.flush()


def _as_seen(code: int) -> int:
    """An exit code as the parent process sees it: eight bits, on Windows 32."""
    return code & 0xFF if os.name == "posix" else code & 0xFFFFFFFF


def _shown_exit(error: SystemExit) -> int:
    """The exit code of `sys.exit(...)`; what is no number is written to stderr.

    Source: `handle_system_exit` in CPython's `Python/pythonrun.c`.
    """
    code: object = error
    with suppress(Exception):
        code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code if code in _C_LONG else -1
    with suppress(Exception):
        if sys.stderr is None:
            os.write(2, f"{code}\n".encode(errors="backslashreplace"))
        else:
            try:
                sys.stderr.write(str(code))
            finally:
                sys.stderr.write("\n")
    return 1


def _show(error: BaseException) -> int | None:
    """Give an uncaught exception to `sys.excepthook`.

    Returns:
        The exit code, where the hook itself called `sys.exit`.
    Source: `PyErr_PrintEx` in CPython's `Python/pythonrun.c`.
    """
    strip(error)
    trace = error.__traceback__
    _remember(error)
    hook = getattr(sys, "excepthook", None)
    with suppress(Exception):
        try:
            sys.audit("sys.excepthook", hook, type(error), error, trace)
        except RuntimeError:  # an audit hook asks for silence
            return None
    if hook is None:
        _write("sys.excepthook is missing\n")
        _display(type(error), error, trace)
        return None
    try:
        hook(type(error), error, trace)
    except SystemExit as leaving:
        return _shown_exit(leaving)
    except BaseException as failure:
        failure.__traceback__ = without_own_frames(failure.__traceback__)
        _write("Error in sys.excepthook:\n")
        _display(type(failure), failure, failure.__traceback__)
        _write("\nOriginal exception was:\n")
        _display(type(error), error, trace)
    return None


def _remember(error: BaseException) -> None:
    """Set what debuggers look at afterwards."""
    sys.last_type = type(error)
    sys.last_value = error
    sys.last_traceback = error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error


def _end_silently() -> None:
    """Let the next exception that reaches the top leave no trace."""
    names = ("excepthook", "last_type", "last_value", "last_traceback", "last_exc")
    before = {name: getattr(sys, name) for name in names if hasattr(sys, name)}

    def restore(*_: object) -> None:
        for name in names:
            if name in before:
                setattr(sys, name, before[name])
            elif hasattr(sys, name):
                delattr(sys, name)

    sys.excepthook = restore


def _write(text: str) -> None:
    with suppress(Exception):
        sys.stderr.write(text)
