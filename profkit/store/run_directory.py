"""Run directories: made and found; their manifest `run.json`, and sets of them.

Imports nothing heavy: what a script sets before its own first import must still count.
"""

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from ..errors import OutputError, RunError
from ..interruption import pass_on
from ..schema.run import SCHEMA_VERSION, RankFacts, RunManifest
from .batches import LOADER
from .death_notes import DEATH_NOTES
from .names import MANIFEST, MARKS, REFERENCE, SET_MANIFEST, STEPS, SUMMARY
from .windows import SAMPLES

_OWN_NAMES = frozenset(
    {MANIFEST, STEPS, MARKS, REFERENCE, SET_MANIFEST, SUMMARY}
    | {"passes", SAMPLES, LOADER, "figures", "report.md", "tensorboard"}
    | {*DEATH_NOTES.values()}
)
"""All that profkit writes into an output directory, beside the run directories of a set."""

_BLOCK_BYTES = 512
"""What `st_blocks` counts in (POSIX)."""
_PARTIAL = ".partial"
_RANK = re.compile(r"rank-\d+(-restart-\d+)?")

Decoded = TypeVar("Decoded")


def check_directory(path: Path, *, force: bool = False) -> None:
    """Make sure that `create_directory` may use a path, without touching it.

    Raises:
        OutputError: it holds something, and `force` is not given or what it holds is not
            profkit's.
    """
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
    except OSError as error:
        raise _unwritable(path, error) from error
    if not force:
        raise OutputError(f"{path} already exists: choose another path, or pass --force")
    foreign = _foreign(path)
    if foreign is not None:
        raise OutputError(
            f"{foreign} was not written by profkit, so nothing is removed: choose another path"
        )


def create_directory(path: Path, *, force: bool = False) -> None:
    """Make an empty directory for output, in place of what profkit wrote there if forced.

    Raises:
        OutputError: see `check_directory`; or it cannot be written.
    """
    check_directory(path, force=force)
    try:
        if path.exists() and any(path.iterdir()):
            shutil.rmtree(path)
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error


def rank_directory(root: Path, rank: RankFacts) -> Path:
    """Where one rank of a launch writes: a run directory of its own."""
    restart = f"-restart-{rank.restart}" if rank.restart else ""
    return root / f"rank-{rank.rank}{restart}"


def create_rank_directory(root: Path, rank: RankFacts, *, force: bool = False) -> None:
    """Make a rank's directory; other ranks may be doing the same at this moment.

    Raises:
        OutputError: there is one already, or `root` holds something else.
    """
    try:
        strangers = [
            child.name
            for child in (root.iterdir() if root.exists() else ())
            if not _RANK.fullmatch(child.name) and child.name not in _OWN_NAMES
        ]
    except OSError as error:
        raise _unwritable(root, error) from error
    if strangers or (root / MANIFEST).exists():
        raise OutputError(f"{root} holds something else: choose another path for the ranks")
    create_directory(rank_directory(root, rank), force=force)


def _foreign(path: Path) -> Path | None:
    """Something in an output directory that profkit did not write there; None if all is its own.

    Other tools write a `run.json` too, and people leave notes beside a report.
    """
    own = {*_OWN_NAMES}
    try:
        if (path / SET_MANIFEST).is_file():
            own |= set(_read_set(path))
        else:
            read_manifest(path / MANIFEST)
    except RunError:
        return path
    for child in path.iterdir():
        if child.name.removesuffix(_PARTIAL) not in own:  # one that was killed while it wrote
            return child
        if child.name in own - _OWN_NAMES and (found := _foreign(child)) is not None:
            return found
    return None


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another path")


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(path.name + _PARTIAL)
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise _unwritable(path, error) from error


def write_manifest(directory: Path, manifest: RunManifest) -> None:
    """Write `run.json`, in place of the one before.

    Raises:
        OutputError: it cannot be written.
    """
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    try:
        write_file(directory / MANIFEST, text)
    except OutputError as error:
        pass_on(error)
        if not _overwrite(directory / MANIFEST, text):
            raise


def _overwrite(path: Path, content: bytes) -> bool:
    """Write over a file where it lies, if it has the room: a full disk has none for another one."""
    with suppress(OSError, AttributeError), path.open("r+b", buffering=0) as file:
        if os.fstat(file.fileno()).st_blocks * _BLOCK_BYTES >= len(content):
            file.write(content)
            file.truncate()
            return True
    return False


def write_set(directory: Path, names: tuple[str, ...]) -> None:
    """Say which run directories `directory` holds, in order."""
    text = msgspec.json.encode({"schema": SCHEMA_VERSION, "runs": names})
    write_file(directory / SET_MANIFEST, text + b"\n")


def discard_set(directory: Path) -> None:
    """Remove a directory that says which run directories it holds, while it holds none."""
    with suppress(OSError):
        if os.listdir(directory) == [SET_MANIFEST]:
            (directory / SET_MANIFEST).unlink()
            directory.rmdir()


def is_run(path: Path) -> bool:
    """Whether `path` looks like a run directory."""
    return (path / MANIFEST).is_file()


def find_runs(path: Path) -> tuple[Path, ...]:
    """The run directories that `path` stands for: itself, or those that it holds, in order.

    Raises:
        RunError: there is none.
    """
    if is_run(path):
        return (path,)
    if (path / SET_MANIFEST).is_file():
        found = tuple(path / name for name in _read_set(path))
        lost = [run.name for run in found if not is_run(run)]
        if lost:
            raise RunError(
                f"{path} should hold the run {', '.join(lost)}, which has no {MANIFEST}: give the "
                "run directories that are left"
            )
    elif path.is_dir():
        found = tuple(sorted(child.parent for child in path.glob(f"*/{MANIFEST}")))
    else:
        found = ()
    if not found:
        what = "holds no run" if path.is_dir() else "is no directory"
        raise RunError(f"{path} {what}: give a directory that profkit wrote (with {MANIFEST})")
    return found


def _decode(path: Path, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}") from error
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is damaged or not profkit's: {error}; record it again") from error


class _Version(msgspec.Struct):
    schema: int


class _Set(msgspec.Struct):
    runs: tuple[str, ...]


def _read_set(directory: Path) -> tuple[str, ...]:
    """The names of the run directories that a directory holds."""
    path = directory / SET_MANIFEST
    _check_version(path)
    names = _decode(path, _Set).runs
    if any(Path(name).name != name for name in names):
        raise RunError(f"{path} names runs elsewhere: it is damaged or not profkit's")
    return names


def read_manifest(path: Path) -> RunManifest:
    """The manifest in a file `run.json`.

    Raises:
        RunError: there is none, it is damaged, or it comes from a newer profkit.
    """
    if not path.is_file():
        raise RunError(f"{path.parent} is no run directory: it has no {MANIFEST}")
    _check_version(path)
    return _decode(path, RunManifest)


def _check_version(path: Path) -> None:
    version = _decode(path, _Version).schema
    if version > SCHEMA_VERSION:
        raise RunError(
            f"{path} is schema {version}; this profkit reads up to {SCHEMA_VERSION}: "
            "upgrade profkit"
        )
    if version < 1:
        raise RunError(f"{path} is schema {version}: there is no such version; record it again")
