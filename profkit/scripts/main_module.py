"""The fresh `__main__` that a program runs in."""

import builtins
import importlib.util
import io
import marshal
import sys
from contextlib import suppress
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from runpy import _run_module_as_main  # type: ignore[attr-defined]
from types import CodeType, ModuleType

from ..probe.own_frames import without_own_frames
from .target import Target, absolute_path

_PYC_HEADER_BYTES = 16
_launchers: list[ModuleType] = []
"""The `__main__` that profkit itself was started as: its code is still running."""


class Program:
    """A program, about to be this process's `__main__`.

    Args:
        target: it; exists.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._from_file = target.kind == "script" and not target.is_container
        self._main = ModuleType("__main__")
        if sys.version_info < (3, 14):
            self._main.__annotations__ = {}
        vars(self._main)["__builtins__"] = builtins

    def enter(self) -> None:
        """Put the fresh `__main__` in place, and the command line that goes with the program.

        What starts anew from `sys.modules["__main__"]` (workers under spawn and forkserver) then
        finds the program there, and not profkit.
        """
        _launchers.append(sys.modules["__main__"])
        sys.modules["__main__"] = self._main
        name, arguments = self._target.name, self._target.arguments
        named = ["-m", name] if self._target.kind == "module" else [name]
        # For programs that start themselves once more: they start Python, not profkit.
        sys.orig_argv[:] = [*_interpreter(), *named, *arguments]
        # With `-m`, until the module is found.
        sys.argv[:] = [named[0], *arguments]

    def run(self) -> BaseException | None:
        """Run the program.

        Returns:
            What it raised, with a traceback that begins with the program's own first frame (for
            a module or a directory those of `runpy`, as with `python`); None if it ran to its
            end.
        """
        error = None
        # The frames below the program's first one are not its own.
        sys.setrecursionlimit(sys.getrecursionlimit() + _depth())
        try:
            if self._from_file:
                exec(_load(self._target.name, vars(self._main)), vars(self._main))
            elif self._target.kind == "script":
                _run_module_as_main("__main__", alter_argv=False)
            else:
                _run_module_as_main(self._target.name)
        except BaseException as raised:
            error = raised.with_traceback(without_own_frames(raised.__traceback__))
        if self._from_file:
            # As Python does after a file, before it shows an error; with `-m` it does not.
            for stream in (sys.stderr, sys.stdout):
                with suppress(Exception):
                    stream.flush()
        return error

    def end_of_file(self) -> None:
        """Take from `__main__` what Python takes from it once a script's file has ended."""
        if self._from_file:
            for name in ("__file__", "__cached__"):
                vars(self._main).pop(name, None)


def _depth() -> int:
    """How many frames lie below the one that calls this, with it."""
    depth, frame = 0, sys._getframe().f_back
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def _interpreter() -> list[str]:
    """Python with its options, as it was called."""
    ours = sys.argv[0]
    for count, argument in enumerate(sys.orig_argv):
        if count and (argument == ours or argument.startswith(("-m", "-c"))):
            return sys.orig_argv[:count]
    return sys.orig_argv[:1]


def _load(name: str, main: dict[str, object]) -> CodeType:
    """The code of a script; what `__main__` says about the script is set before it is compiled.

    Raises:
        SyntaxError, OSError: as Python shows it to the user.
    """
    path = absolute_path(name)
    with io.open_code(path) as file:
        content = file.read()
    compiled = content.startswith(importlib.util.MAGIC_NUMBER)
    loader = SourcelessFileLoader if compiled else SourceFileLoader
    main["__loader__"] = loader("__main__", path)
    main["__file__"] = path
    if sys.version_info < (3, 15):
        main["__cached__"] = None
    if compiled:
        code: CodeType = marshal.loads(memoryview(content)[_PYC_HEADER_BYTES:])
        return code
    return compile(content, path, "exec", dont_inherit=True)
