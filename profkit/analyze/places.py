"""Where code lives, in words fit for a report: never an absolute path of this machine."""

import re
from enum import Enum

_PACKAGES = re.compile(r".*/(?:site|dist)-packages/(.+)")
_STDLIB = re.compile(r".*/(?:lib(?:64)?/python\d+(?:\.\d+t?)?|python\d+/lib)/(.+)", re.IGNORECASE)
_PROFKIT = re.compile(r"(?:.*/)?(profkit/(?:\w+/)*\w+\.py)")
_COPY = re.compile(r".*/\.profkit-\w+/(.+)")
"""Below the copy of a working directory that a pass ran in."""
_OWN_WORKLOADS = "profkit/workloads/"
_HOMES = ("home", "users", "root", "")
"""Directories whose children are people or mount points: their names stay out of reports."""


class Origin(Enum):
    """Who wrote a file, as far as its path tells."""

    PROJECT = "project"
    """The user's own code, profkit's built-in workloads included."""
    PACKAGE = "package"
    STDLIB = "stdlib"
    PROFKIT = "profkit"
    GENERATED = "generated"
    """No file at all: `<frozen importlib._bootstrap>`, `<string>`."""


def origin(file: str) -> Origin:
    """Who wrote a file, told from its path alone."""
    path = file.replace("\\", "/")
    if path.startswith("<"):
        return Origin.GENERATED
    if own := _PROFKIT.fullmatch(path):
        return Origin.PROJECT if own[1].startswith(_OWN_WORKLOADS) else Origin.PROFKIT
    if _PACKAGES.fullmatch(path):
        return Origin.PACKAGE
    if _STDLIB.fullmatch(path):
        return Origin.STDLIB
    return Origin.PROJECT


def short_place(file: str, line: int | None, root: str | None = None) -> str:
    """`file:line` as a reader knows it, such as `torchvision/datasets/mnist.py:142`.

    Args:
        file: path as the interpreter reports it, absolute or not, of any system.
        line: counted from 1; None or 0 where it is not known, and then left out.
        root: directory of the project; files below it are named relative to it.

    Returns:
        Installed packages and the standard library without the directory that they are
        installed in. Other absolute paths keep their last directory, since a bare `train.py` says
        little and all the rest says where a person keeps things.
    """
    place = _short_file(file.replace("\\", "/"), root)
    return f"{place}:{line}" if line else place


def _short_file(path: str, root: str | None) -> str:
    if path.startswith("<"):
        return path
    if copied := _COPY.fullmatch(path):
        return copied[1]
    base = root.replace("\\", "/").rstrip("/") + "/" if root else None
    in_packages = _PACKAGES.fullmatch(path)
    if base and path.startswith(base) and not in_packages:
        return path[len(base) :]
    for pattern in (_PROFKIT, _PACKAGES, _STDLIB):
        if found := pattern.fullmatch(path):
            return found[1]
    is_absolute = path.startswith("/") or path[1:3] == ":/"
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    if not is_absolute:
        return "/".join(parts)
    # The directory is dropped where it is a person's: /home/me/train.py is just train.py.
    above = parts[-3].lower() if len(parts) > 2 else ""
    if len(parts) < 2 or above in _HOMES or parts[-2].lower() in _HOMES or parts[-2][-1] == ":":
        return parts[-1]
    return "/".join(parts[-2:])
