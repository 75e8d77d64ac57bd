"""A temporary copy of the working directory, for passes that would write outputs again."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import RunError
from ..store.names import MANIFEST, SET_MANIFEST
from ..store.run_directory import find_runs, read_manifest

LIMIT_BYTES = 64 * 2**20
"""A larger directory is not copied: most of it is data or checkpoints."""
LIMIT_FILES = 5_000
PREFIX = ".profkit-"
_LEFT_OUT = frozenset({"runs", ".git", "node_modules", "__pycache__", ".mypy_cache", ".venv"})


def directory_size(directory: Path) -> tuple[int, int] | None:
    """Bytes and files of what a copy would hold; None where that is beyond the limits."""
    size = files = 0
    for place, names in _walk(directory):
        for name in names:
            files += 1
            with suppress(OSError):
                size += (place / name).lstat().st_size
            if size > LIMIT_BYTES or files > LIMIT_FILES:
                return None
    return size, files


def files_in(directory: Path) -> Iterator[Path]:
    """What a copy of a directory would hold, see `copied`."""
    for place, names in _walk(directory):
        yield from (place / name for name in names)


@contextmanager
def copied(directory: Path) -> Iterator[Path]:
    """A copy of a directory beside it, gone afterwards; without environments and old runs.

    Beside it, so that a program's `../data` is still there; elsewhere if that place cannot be
    written. Links stay links: those to the outside lead to where they did, and what is linked is
    not copied. What cannot be read, and what is no file (pipes, sockets), is left out.

    Raises:
        OSError: there is no room for it.
    """
    directory = directory.resolve()
    parent = directory.parent if os.access(directory.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(
        prefix=PREFIX, dir=parent, ignore_cleanup_errors=True
    ) as scratch:
        # The copy takes the temporary directory's own place, for the sake of `..`.
        copy = Path(scratch).resolve()
        fill(directory, directory, copy)
        yield copy


def fill(inner: Path, directory: Path, copy: Path) -> None:
    """Copy a directory in a directory, or that itself, to the same place in the other's copy.

    Without environments, caches and old runs in it.

    Raises:
        OSError: there is no room for it.
    """
    for place, names in _walk(inner):
        there = copy / place.relative_to(directory)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            copy_entry(place / name, there / name, directory, copy)


def moved(path: str, directory: Path, copy: Path) -> str:
    """A path as it leads, from the copy of a directory, to the same: in the copy if it is there.

    Args:
        path: absolute, or relative to `directory`.
        directory: that was copied.
        copy: of it.
    """
    absolute = Path(os.path.abspath(directory / path))
    for one in (absolute, absolute.parent.resolve() / absolute.name):
        for root in (directory, directory.resolve()):
            if one.is_relative_to(root):
                inside = one.relative_to(root)
                return str(copy / inside) if os.path.isabs(path) else str(inside)
    return str(absolute)


def _walk(directory: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each directory that is copied, and what is to be copied in it beside directories."""
    for name, folders, files in os.walk(directory):
        place = Path(name)
        links = [one for one in folders if (place / one).is_symlink()]
        folders[:] = [one for one in folders if one not in links and not is_left_out(place / one)]
        yield place, [*files, *(one for one in links if one not in _LEFT_OUT)]


def copy_entry(source: Path, target: Path, directory: Path, copy: Path) -> None:
    """Copy a file or link that lies in a directory into the directory's copy.

    What cannot be read, is no file, or is gone meanwhile, is left out.

    Args:
        source, target: within `directory`, and within `copy`, whose directory is there.
    """
    try:
        if source.is_symlink():
            _link(source, target, directory, copy)
        elif stat.S_ISREG(source.stat().st_mode):
            shutil.copy2(source, target)
    except (PermissionError, FileNotFoundError):  # not ours, or gone meanwhile
        return


def _link(source: Path, target: Path, directory: Path, copy: Path) -> None:
    leads_to = Path(os.path.abspath(source.parent / os.readlink(source)))
    if leads_to.is_relative_to(directory):
        leads_to = copy / leads_to.relative_to(directory)
    target.symlink_to(leads_to)


def is_left_out(place: Path) -> bool:
    """Whether a directory is a cache, an environment, a history or output of profkit."""
    if place.name in _LEFT_OUT or place.name.startswith(PREFIX):
        return True
    return (place / "pyvenv.cfg").is_file() or _is_output(place)


def _is_output(place: Path) -> bool:
    """Whether profkit wrote it; other tools write a `run.json` too."""
    try:
        if (place / MANIFEST).is_file():
            read_manifest(place / MANIFEST)
        elif (place / SET_MANIFEST).is_file():
            find_runs(place)
        else:
            return False
    except RunError:
        return False
    return True
