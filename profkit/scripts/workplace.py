"""A temporary copy of the working directory, for passes that would write outputs again."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT_BYTES = 64 * 2**20
"""A larger directory is not copied: most of it is data or checkpoints."""
LIMIT_FILES = 5_000
_LEFT_OUT = frozenset({"runs", ".git", "node_modules", "__pycache__", ".mypy_cache", ".venv"})


def directory_size(directory: Path) -> tuple[int, int] | None:
    """Bytes and files of what a copy would hold; None where that is beyond the limits."""
    size = files = 0
    for place, folders, names in os.walk(directory):
        folders[:] = [one for one in folders if not _is_left_out(Path(place), one)]
        for name in names:
            files += 1
            try:
                size += (Path(place) / name).lstat().st_size
            except OSError:
                continue
            if size > LIMIT_BYTES or files > LIMIT_FILES:
                return None
    return size, files


@contextmanager
def copied(directory: Path) -> Iterator[Path]:
    """A copy of a directory beside it, gone afterwards; without environments and old runs.

    Beside it, so that a program's `../data` is still there; elsewhere if that place cannot be
    written. Links stay links, for a whole data set may lie behind one: what the program writes
    through one that leads elsewhere it writes there.
    """
    parent = directory.parent if os.access(directory.parent, os.W_OK) else None
    with tempfile.TemporaryDirectory(
        prefix=".profkit-", dir=parent, ignore_cleanup_errors=True
    ) as scratch:
        # The copy takes the temporary directory's own place, for the sake of `..`.
        copy = Path(scratch)
        shutil.copytree(
            directory,
            copy,
            symlinks=True,
            ignore=lambda place, names: [one for one in names if _is_left_out(Path(place), one)],
            dirs_exist_ok=True,
        )
        if parent is None:
            _lead_back(directory, copy)
        yield copy


def _lead_back(directory: Path, copy: Path) -> None:
    """Let links that no longer lead anywhere from a copy lead to where the original ones do."""
    for place, folders, names in os.walk(copy):
        for link in (Path(place) / name for name in (*folders, *names)):
            if link.is_symlink() and not link.exists():
                original = directory / link.relative_to(copy)
                link.unlink()
                link.symlink_to(original.parent.absolute() / os.readlink(original))


def moved(path: str, directory: Path, copy: Path) -> str:
    """A path within `directory` as it is called in its copy; another one as it is.

    Relative ones are the same in both.
    """
    if not os.path.isabs(path):
        return path
    try:
        return str(copy / Path(path).resolve().relative_to(directory.resolve()))
    except ValueError:
        return path


def _is_left_out(place: Path, name: str) -> bool:
    inside = place / name
    return inside.is_dir() and (
        name in _LEFT_OUT
        or name.startswith(".profkit-")
        or (inside / "pyvenv.cfg").is_file()
        or (inside / "run.json").is_file()
        or (inside / "runs.json").is_file()
    )
