"""Modules that profkit loaded and the user's program would have found in its own directory."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from types import ModuleType

_AT_START = frozenset(
    {"abc", "codecs", "encodings", "genericpath", "importlib", "io", "ntpath", "os", "posixpath"}
    | {"site", "sitecustomize", "stat", "usercustomize", "zipimport", "_collections_abc"}
)
"""Loaded before Python looks at the program's directory at all."""


def set_aside(directory: str) -> dict[str, ModuleType]:
    """Take modules out of `sys.modules` that a program's directory has a namesake of.

    A `queue.py` beside the script comes before the standard library's for the script and all
    that it imports; that profkit had loaded the latter must not change this.

    Returns:
        What was taken out, submodules included, by name.
    """
    try:
        here = {entry.partition(".")[0] for entry in os.listdir(directory)}
    except OSError:  # gone, or a zip file
        return {}
    here -= {"__main__", __name__.partition(".")[0], *_AT_START}
    aside: dict[str, ModuleType] = {}
    for name in sorted(here & sys.modules.keys()):
        loaded = getattr(sys.modules[name], "__spec__", None)
        found = PathFinder.find_spec(name, [directory])
        if found is None or found.loader is None or loaded is None or not loaded.has_location:
            continue
        if os.path.realpath(str(found.origin)) == os.path.realpath(str(loaded.origin)):
            continue
        for inner in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            aside[inner] = sys.modules.pop(inner)
    return aside


@contextmanager
def put_back(aside: dict[str, ModuleType], path: list[str]) -> Iterator[None]:
    """For a while, give profkit its own modules and `sys.path` again."""
    theirs = {name: sys.modules.get(name) for name in aside}
    their_path = list(sys.path)
    sys.modules.update(aside)
    sys.path[:] = path
    try:
        yield
    finally:
        sys.path[:] = their_path
        for name, module in theirs.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
