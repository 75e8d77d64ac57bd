"""The steps of a run on disk: Arrow IPC streams of int64 columns.

They are written message by message, each with one write to the file, so that after a kill
everything up to the last whole batch can be read.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..errors import RunError
from ..interruption import pass_on
from ..schema.stage import STAGES
from ..schema.steps import BoolArray, Int64Array, MarkTable, StepTable
from .names import MARKS, STEPS

_STEP_COLUMNS = (
    "start_ns",
    "end_ns",
    *(f"{stage.value}_ns" for stage in STAGES),
    "collective_wait_ns",
    "samples",
    "flags",
)
STEP_SCHEMA = pa.schema([(name, pa.int64()) for name in _STEP_COLUMNS])
_MARK_COLUMNS = ("step", "stage", "start_ns", "end_ns")
_MARK_SCHEMA = pa.schema([(name, pa.int64()) for name in _MARK_COLUMNS])


class RunWriter:
    """Appends to the streams of one run directory; every call leaves whole batches behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._owner = os.getpid()
        self._streams: dict[str, int] = {}
        # What a signal's handler kept from being written, by raising: the next call begins with it.
        self._unwritten: list[tuple[str, StepTable | MarkTable]] = []

    def append(
        self, steps: StepTable, marks: MarkTable | None = None, *, name: str = STEPS
    ) -> None:
        """Append closed steps, and the segments of those that are sampled.

        Raises:
            OSError: the disk is full, or the directory has gone.
        """
        if os.getpid() != self._owner:  # a fork has no business in its parent's files
            return
        self._unwritten.append((name, steps))
        if marks is not None and len(marks):
            self._unwritten.append((MARKS, marks))
        self._write_all()

    def _write_all(self) -> None:
        try:
            while self._unwritten:
                name, table = self._unwritten[0]
                self._write(name, _batch(table))
                del self._unwritten[0]
        except Exception as error:
            pass_on(error)
            self._unwritten.clear()
            raise

    def _write(self, name: str, batch: pa.RecordBatch) -> None:
        stream = self._streams.get(name)
        if stream is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            stream = os.open(self.directory / name, flags, 0o644)
            try:
                _write_whole(stream, batch.schema.serialize())
                self._streams[name] = stream
            except BaseException:
                os.close(stream)
                raise
        elif not (self.directory / name).exists():
            # Writing to a removed file succeeds, and everything is lost without a word.
            raise FileNotFoundError(errno.ENOENT, "the run directory was removed")
        _write_whole(stream, batch.serialize())

    def close(self) -> None:
        """Write what is left, and close the streams.

        Raises:
            OSError: see `append`.
        """
        try:
            if os.getpid() == self._owner:
                self._write_all()
        finally:
            for stream in self._streams.values():
                with suppress(OSError):
                    os.close(stream)
            self._streams.clear()


def _batch(table: StepTable | MarkTable) -> pa.RecordBatch:
    if isinstance(table, StepTable):
        return pa.record_batch(step_columns(table), schema=STEP_SCHEMA)
    parts = (table.step, table.stage, table.start_ns, table.end_ns)
    return pa.record_batch([column(part) for part in parts], schema=_MARK_SCHEMA)


def column(values: Int64Array, known: BoolArray | None = None) -> pa.Array:
    """Integers as Arrow has them; null where they are not known.

    `pa.array` would do, but imports pandas the first time: 0.3 s within somebody's training.
    """
    packed = None
    if known is not None and not known.all():
        packed = pa.py_buffer(np.packbits(known, bitorder="little"))
    content = pa.py_buffer(np.ascontiguousarray(values, np.int64))
    return pa.Array.from_buffers(pa.int64(), len(values), [packed, content])


def step_columns(steps: StepTable) -> list[pa.Array]:
    """Steps as the columns of `STEP_SCHEMA`; null where absent."""
    wait = steps.collective_wait_ns
    return [
        column(steps.start_ns),
        column(steps.end_ns),
        *(column(steps.stage_ns[:, i], steps.marked[:, i]) for i in range(len(STAGES))),
        pa.nulls(len(steps), pa.int64()) if wait is None else column(wait),
        column(steps.samples, steps.samples >= 0),
        column(steps.flags),
    ]


def _write_whole(stream: int, buffer: pa.Buffer) -> None:
    """Append a message whole or not at all: behind half of one, nothing could be read.

    What is taken back of it also leaves a full disk the room for a word about that.
    """
    begin = os.lseek(stream, 0, os.SEEK_CUR)
    left = memoryview(buffer)
    try:
        while left:
            left = left[os.write(stream, left) :]
    except BaseException:
        with suppress(OSError):
            os.ftruncate(stream, begin)
            os.lseek(stream, begin, os.SEEK_SET)
        raise


def read_batches(path: Path, schema: pa.Schema, gaps: list[str]) -> pa.Table | None:
    """All whole batches of a stream, on disk still; None where there is none.

    Args:
        path: the stream.
        schema: what its columns must be.
        gaps: what was cut short is named here.

    Raises:
        RunError: the stream is damaged, or not profkit's.
    """
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


def read_steps(path: Path, gaps: list[str]) -> StepTable | None:
    """The steps of a stream, up to its last whole batch; None where there is none.

    Args:
        path: the stream.
        gaps: what was cut short is named here.

    Raises:
        RunError: the stream is damaged, or not profkit's.
    """
    table = read_batches(path, STEP_SCHEMA, gaps)
    return None if table is None else steps_from(table, path)


def steps_from(table: pa.Table, path: Path | str) -> StepTable:
    """Columns of `STEP_SCHEMA` as steps; `path` is what an error names.

    Raises:
        RunError: the stages do not sum to their step.
    """
    stages = [numbers(table, f"{stage.value}_ns", 0) for stage in STAGES]
    wait, waited = numbers(table, "collective_wait_ns", 0)
    steps = StepTable(
        start_ns=numbers(table, "start_ns", 0)[0],
        end_ns=numbers(table, "end_ns", 0)[0],
        stage_ns=np.stack([taken for taken, _ in stages], axis=1),
        marked=np.stack([known for _, known in stages], axis=1),
        collective_wait_ns=wait if waited.any() else None,
        samples=numbers(table, "samples", -1)[0],
        flags=numbers(table, "flags", 0)[0],
    )
    if bool((steps.stage_ns.sum(axis=1) != steps.step_ns).any()):
        raise RunError(f"{path} is damaged: stages do not sum to their step; record it again")
    return steps


def read_marks(path: Path, gaps: list[str]) -> MarkTable:
    """The segments of a stream; see `read_steps`."""
    table = read_batches(path, _MARK_SCHEMA, gaps)
    if table is None:
        return MarkTable.empty()
    return MarkTable(*(numbers(table, name, 0)[0] for name in _MARK_COLUMNS))


def numbers(table: pa.Table, name: str, absent: int) -> tuple[Int64Array, BoolArray]:
    """A column's integers, `absent` where they are null, and where they are known.

    From its buffers, for the reason that `_column` has.
    """
    parts, masks = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for chunk in table.column(name).chunks:
        validity, content = chunk.buffers()
        rows = slice(chunk.offset, chunk.offset + len(chunk))
        known = np.ones(len(chunk), np.bool_)
        if validity is not None:
            bits = np.frombuffer(validity, np.uint8)
            known = np.unpackbits(bits, bitorder="little").astype(np.bool_)[rows]
        values = np.frombuffer(content, np.int64)[rows]
        parts.append(np.where(known, values, absent))
        masks.append(known)
    return np.concatenate(parts), np.concatenate(masks)
