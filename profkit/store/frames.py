"""Messages between a check and the instances that it measures: whole frames on a pipe."""

import os
import struct
from enum import Enum

import pyarrow as pa

from ..errors import RunError
from ..schema.steps import StepTable
from .streams import STEP_SCHEMA, step_columns, steps_from

_HEAD = struct.Struct("<BQ")
_LONGEST_BYTES = 1 << 30


class Kind(Enum):
    """What a frame holds."""

    READY = 1
    """`InstanceFacts` as JSON: the instance is warm and waits."""
    BLOCK = 2
    """The steps of a block, see `pack_steps`; the instance waits again."""
    ENDED = 3
    """How the program ended by itself, in words."""
    GO = 4
    """How many steps the next block has, see `pack_count`."""
    LEAVE = 5
    """The program is to end."""
    ASK = 6
    """An instance that waits is to say what became of its fixes by now."""
    FIXES = 7
    """`FixFacts` as JSON."""


def write_frame(pipe: int, kind: Kind, content: bytes = b"") -> None:
    """Send a frame.

    Raises:
        OSError: nobody reads it.
    """
    left = memoryview(_HEAD.pack(kind.value, len(content)) + content)
    while left:
        left = left[os.write(pipe, left) :]


def read_frame(pipe: int) -> tuple[Kind, bytes] | None:
    """The next frame; waits for it. None where the other side has gone.

    Raises:
        RunError: what came is no frame.
    """
    head = _read(pipe, _HEAD.size)
    if head is None:
        return None
    number, length = _HEAD.unpack(head)
    try:
        kind = Kind(number)
    except ValueError:
        kind = None
    if kind is None or length > _LONGEST_BYTES:
        raise RunError(f"the pipe of an instance carries something else (frame {number}, {length})")
    content = _read(pipe, length)
    return None if content is None else (kind, content)


def _read(pipe: int, length: int) -> bytes | None:
    parts = []
    while length:
        part = os.read(pipe, min(length, 1 << 20))
        if not part:
            return None
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def pack_count(steps: int) -> bytes:
    """The content of GO."""
    return struct.pack("<Q", steps)


def unpack_count(content: bytes) -> int:
    """See `pack_count`."""
    steps: int = struct.unpack("<Q", content)[0]
    return steps


def pack_steps(steps: StepTable, drain_ns: int) -> bytes:
    """The content of BLOCK.

    Args:
        steps: closed steps of the block, those that do not count included.
        drain_ns: what the device still had to do after the last one.
    """
    batch = pa.record_batch(step_columns(steps), schema=STEP_SCHEMA)
    return struct.pack("<Q", drain_ns) + bytes(batch.serialize())


def unpack_steps(content: bytes, source: str) -> tuple[StepTable, int]:
    """See `pack_steps`.

    Args:
        content: of a frame.
        source: what an error calls it.

    Raises:
        RunError: it is damaged.
    """
    try:
        drain_ns: int = struct.unpack("<Q", content[:8])[0]
        batch = pa.ipc.read_record_batch(pa.py_buffer(content[8:]), STEP_SCHEMA)
    except (struct.error, pa.ArrowInvalid, EOFError) as error:
        raise RunError(f"{source} sent no steps ({error}): check it again") from None
    return steps_from(pa.Table.from_batches([batch], STEP_SCHEMA), source), drain_ns
