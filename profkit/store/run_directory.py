"""A run directory on disk: `run.json`, and two Arrow IPC streams of int64 columns.

The streams are written message by message, each with one write to the file, so that after a
kill everything up to the last whole batch can be read.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pyarrow as pa

from ..errors import OutputError, RunError
from ..schema.run import SCHEMA_VERSION, RunManifest, RunRecord
from ..schema.stage import STAGES
from ..schema.steps import Int64Array, MarkTable, StepTable

MANIFEST = "run.json"
STEPS = "steps.arrow"
MARKS = "marks.arrow"
REFERENCE = "reference.arrow"
SET_MANIFEST = "runs.json"
"""In a directory that holds several run directories: their names, in order."""

_OWN_NAMES = frozenset(
    {MANIFEST, STEPS, MARKS, REFERENCE, SET_MANIFEST}
    | {"passes", "figures", "report.md", "tensorboard"}
)
"""All that profkit writes into an output directory, beside the run directories of a set."""

_STEP_COLUMNS = (
    "start_ns",
    "end_ns",
    *(f"{stage.value}_ns" for stage in STAGES),
    "collective_wait_ns",
    "samples",
    "flags",
)
_STEP_SCHEMA = pa.schema([(name, pa.int64()) for name in _STEP_COLUMNS])
_MARK_COLUMNS = ("step", "stage", "start_ns", "end_ns")
_MARK_SCHEMA = pa.schema([(name, pa.int64()) for name in _MARK_COLUMNS])

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


def _foreign(path: Path) -> Path | None:
    """Something in an output directory that profkit did not write there; None if all is its own.

    Other tools write a `run.json` too, and people leave notes beside a report.
    """
    own = {*_OWN_NAMES}
    try:
        if (path / SET_MANIFEST).is_file():
            own |= set(_read_set(path))
        else:
            _read_manifest(path / MANIFEST)
    except RunError:
        return path
    for child in path.iterdir():
        if child.name not in own:
            return child
        if child.name not in _OWN_NAMES and (found := _foreign(child)) is not None:
            return found
    return None


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another path")


def write_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise _unwritable(path, error) from error


def write_manifest(directory: Path, manifest: RunManifest) -> None:
    """Write `run.json`, in place of the one before."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    write_file(directory / MANIFEST, text + b"\n")


def write_set(directory: Path, names: tuple[str, ...]) -> None:
    """Say which run directories `directory` holds, in order."""
    text = msgspec.json.encode({"schema": SCHEMA_VERSION, "runs": names})
    write_file(directory / SET_MANIFEST, text + b"\n")


class RunWriter:
    """Appends to the streams of one run directory; every call leaves whole batches behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._owner = os.getpid()
        self._streams: dict[str, int] = {}

    def append(
        self, steps: StepTable, marks: MarkTable | None = None, *, name: str = STEPS
    ) -> None:
        """Append closed steps, and the segments of those that are sampled.

        Raises:
            OSError: the disk is full, or the directory has gone.
        """
        if os.getpid() != self._owner:  # a fork has no business in its parent's files
            return
        wait = steps.collective_wait_ns
        columns = [
            pa.array(steps.start_ns),
            pa.array(steps.end_ns),
            *(pa.array(steps.stage_ns[:, i], mask=~steps.marked[:, i]) for i in range(len(STAGES))),
            pa.nulls(len(steps), pa.int64()) if wait is None else pa.array(wait),
            pa.array(steps.samples, mask=steps.samples < 0),
            pa.array(steps.flags),
        ]
        self._write(name, pa.record_batch(columns, schema=_STEP_SCHEMA))
        if marks is not None and len(marks):
            parts = (marks.step, marks.stage, marks.start_ns, marks.end_ns)
            batch = pa.record_batch([pa.array(part) for part in parts], schema=_MARK_SCHEMA)
            self._write(MARKS, batch)

    def _write(self, name: str, batch: pa.RecordBatch) -> None:
        stream = self._streams.get(name)
        if stream is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            stream = self._streams[name] = os.open(self.directory / name, flags, 0o644)
            _write_whole(stream, batch.schema.serialize())
        elif not (self.directory / name).exists():
            # Writing to a removed file succeeds, and everything is lost without a word.
            raise FileNotFoundError(2, "the run directory was removed")
        _write_whole(stream, batch.serialize())

    def close(self) -> None:
        """Close the streams."""
        for stream in self._streams.values():
            with suppress(OSError):
                os.close(stream)
        self._streams.clear()


def _write_whole(stream: int, buffer: pa.Buffer) -> None:
    left = memoryview(buffer)
    while left:
        left = left[os.write(stream, left) :]


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


def read_run(path: Path) -> RunRecord:
    """A run directory as facts.

    Raises:
        RunError: it is none, it is damaged, or it comes from a newer profkit.
    """
    manifest = _read_manifest(path / MANIFEST)
    gaps: list[str] = []
    steps = _read_steps(path / STEPS, gaps)
    reference = _read_steps(path / REFERENCE, gaps) if (path / REFERENCE).exists() else None
    return RunRecord(
        manifest=manifest,
        steps=StepTable.empty() if steps is None else steps,
        marks=_read_marks(path / MARKS, gaps),
        reference=reference,
        reading_gaps=tuple(gaps),
    )


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


def _read_manifest(path: Path) -> RunManifest:
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


def _read_batches(path: Path, schema: pa.Schema, gaps: list[str]) -> pa.Table | None:
    """All whole batches of a stream; a torn last one is named in `gaps`."""
    if not path.exists():
        return None
    batches = []
    try:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_stream(source)
            if reader.schema != schema:
                raise RunError(f"{path} has foreign columns: not profkit's; record it again")
            while True:
                try:
                    batches.append(reader.read_next_batch())
                except StopIteration:
                    break
                except (pa.ArrowInvalid, OSError):
                    gaps.append(f"{path.name} ends in the middle of a batch: read up to there")
                    break
    except (pa.ArrowInvalid, OSError) as error:
        if path.stat().st_size < schema.serialize().size:
            gaps.append(f"{path.name} has no whole batch")
            return None
        reason = str(error).splitlines()[0]
        raise RunError(f"{path} is damaged or not profkit's: {reason}; record it again") from error
    return pa.Table.from_batches(batches, schema)


def _read_steps(path: Path, gaps: list[str]) -> StepTable | None:
    table = _read_batches(path, _STEP_SCHEMA, gaps)
    if table is None:
        return None
    columns = [_numbers(table, f"{stage.value}_ns", 0) for stage in STAGES]
    marked = [
        table.column(f"{stage.value}_ns").is_valid().to_numpy(zero_copy_only=False)
        for stage in STAGES
    ]
    wait = table.column("collective_wait_ns")
    steps = StepTable(
        start_ns=_numbers(table, "start_ns", 0),
        end_ns=_numbers(table, "end_ns", 0),
        stage_ns=np.stack(columns, axis=1),
        marked=np.stack(marked, axis=1).astype(np.bool_),
        collective_wait_ns=(
            None if wait.null_count == len(wait) else _numbers(table, "collective_wait_ns", 0)
        ),
        samples=_numbers(table, "samples", -1),
        flags=_numbers(table, "flags", 0),
    )
    if bool((steps.stage_ns.sum(axis=1) != steps.step_ns).any()):
        raise RunError(f"{path} is damaged: stages do not sum to their step; record it again")
    return steps


def _read_marks(path: Path, gaps: list[str]) -> MarkTable:
    table = _read_batches(path, _MARK_SCHEMA, gaps)
    if table is None:
        return MarkTable.empty()
    return MarkTable(*(_numbers(table, name, 0) for name in _MARK_COLUMNS))


def _numbers(table: pa.Table, name: str, absent: int) -> Int64Array:
    column = table.column(name).fill_null(absent)
    numbers: Int64Array = column.to_numpy()
    return numbers
