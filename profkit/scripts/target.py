"""What is run: a script, a directory or zip file, or a module; found as `python` finds it."""

import importlib.util
import os
import pkgutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Literal

from ..errors import InputError
from ..probe.command import printable
from ..probe.import_watch import find_spec

_LONGEST_STEM = 60
"""Of the 255 bytes of a file's name: letters may have four of them, and a time follows."""
_REWRITING = ("__path__", "sys.modules", "meta_path")
"""Words in a package's source after which only importing it tells what modules it has."""


@dataclass(frozen=True, slots=True)
class Target:
    """A program as `python SCRIPT ...` or `python -m MODULE ...` names it.

    Attributes:
        kind: `script` (a file, or a directory or zip file with a `__main__.py`) or `module`.
        name: path as given, or the module's absolute name.
        arguments: what follows it on the command line.
    """

    kind: Literal["script", "module"]
    name: str
    arguments: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The program's bare name, fit for a directory's."""
        if self.kind == "module":
            stem = self.name.rpartition(".")[2]
        else:
            stem = Path(self.name).stem.strip(".")
        return printable(stem)[:_LONGEST_STEM] or "program"

    @property
    def is_container(self) -> bool:
        """Whether it is a directory or zip file, whose `__main__` is run."""
        if self.kind == "module":
            return False
        return pkgutil.get_importer(absolute_path(self.name)) is not None


def check_target(target: Target) -> None:
    """Make sure that a program can be run, without running or importing any of it.

    A syntax error is none of this: it is shown when the program runs, as `python` shows it.

    Raises:
        InputError: it does not exist, cannot be read, or is no Python.
    """
    if target.kind == "module":
        _check_module(target)
    elif target.is_container:
        if find_spec("__main__", [absolute_path(target.name)], None, sys.meta_path) is None:
            raise InputError(f"{target.name} has no __main__.py: give a script in it")
    else:
        _check_script(target.name)


def absolute_path(name: str) -> str:
    """A script's path as its `__file__` gives it: absolute, otherwise as given."""
    if os.name == "nt" or os.path.isabs(name):
        return os.path.abspath(name) if os.name == "nt" else name
    try:
        return os.path.join(os.getcwd(), name)
    except OSError:  # the working directory is gone
        return name


def search_path(target: Target) -> list[str]:
    """`sys.path` as `python` would set it for a program, from the one that profkit runs with."""
    first = _first(target)
    rest = inherited_path()
    return rest if first is None else [first, *rest]


def _first(target: Target) -> str | None:
    if target.is_container:
        return absolute_path(target.name)
    if _safe_path():
        return None
    if target.kind == "script":
        return os.path.dirname(os.path.realpath(target.name))
    try:
        return os.getcwd()
    except OSError:
        return None


def _safe_path() -> bool:
    """Whether Python was told to put nothing in front of `sys.path` (`-P`, `-I`)."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def inherited_path() -> list[str]:
    """`sys.path` without what Python had put first for the program that is running: profkit."""
    path = list(sys.path)
    if not path or _safe_path():
        return path
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    file = getattr(main, "__file__", None)
    if spec is not None:  # `-m`: the working directory; else a zip file, which holds profkit
        own = spec.name != "__main__"
    elif file is not None:
        own = path[0] == os.path.dirname(os.path.realpath(file))
    else:
        own = path[0] == ""
    return path[1:] if own else path


def _check_script(name: str) -> None:
    try:
        kind = os.stat(name).st_mode
        if not stat.S_ISREG(kind):
            # A pipe gives its text only once: to the one that runs it.
            return
        source = Path(name).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(
                f"{name} does not exist: give a Python script, or a module with -m"
            ) from None
        words = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot read {name}: {words}") from None
    if source.startswith(importlib.util.MAGIC_NUMBER):
        return
    if name.endswith(".pyc"):
        raise InputError(f"{name} was compiled by another version of Python: give its source")
    if b"\0" in source:
        raise InputError(f"{name} is no Python script: it holds null bytes")
    try:
        importlib.util.decode_source(source)
    except (SyntaxError, UnicodeError, LookupError):
        raise InputError(
            f"{name} is no Python script: it is not in UTF-8, nor in an encoding that it names"
        ) from None


def _check_module(target: Target) -> None:
    name = target.name
    hint = f"; -m takes {name[:-3]}" if name.endswith(".py") else ""
    missing = InputError(
        f"no module named {name} in the working directory or among the installed ones{hint}"
    )
    with _searching(target):
        spec = None
        for part in [*name.split("."), "__main__"]:
            inner = None
            if spec is None:
                inner = _find(part, None)
            elif part == "__main__" and spec.submodule_search_locations is None:
                return
            elif spec.submodule_search_locations is not None:
                try:
                    inner = _find(f"{spec.name}.{part}", list(spec.submodule_search_locations))
                except KeyError:  # a namespace in a package that is not imported yet
                    return
            if inner is None:
                if spec is not None and _only_importing_tells(spec):
                    return
                if spec is not None and part == "__main__":
                    raise InputError(f"{name} is a package without __main__: name a module in it")
                raise missing
            spec = inner


def _find(name: str, path: list[str] | None) -> ModuleSpec | None:
    try:
        return find_spec(name, path, None, list(sys.meta_path))
    except (ImportError, AttributeError, TypeError, ValueError):
        return None


def _only_importing_tells(spec: ModuleSpec) -> bool:
    if spec.submodule_search_locations is None or spec.loader is None:
        return False
    try:
        source = spec.loader.get_source(spec.name)  # type: ignore[attr-defined]
    except (ImportError, AttributeError, SyntaxError, UnicodeError):
        return True
    return source is None or any(word in source for word in _REWRITING)


@contextmanager
def _searching(target: Target) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:] = search_path(target)
    try:
        yield
    finally:
        sys.path[:] = before
