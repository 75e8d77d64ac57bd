"""Reads and writes IDX files, the format of MNIST, raw or gzipped.

Layout: two zero bytes, a dtype code, the number of dimensions, each dimension as a big-endian
uint32, then the items, big-endian, last dimension fastest.
Source: the format's description on the MNIST page of LeCun, Cortes and Burges.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from profkit.errors import DataError, InputError

_ITEM_TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_CODES = {item_type.newbyteorder("="): code for code, item_type in _ITEM_TYPES.items()}
_MAX_DIMENSIONS = 64  # numpy's own limit
_GZIP_MAGIC = b"\x1f\x8b"
_REPLACE = "replace it by an intact copy"


def encode(array: NDArray[Any]) -> bytes:
    """Give the IDX bytes of an array.

    Args:
        array: 1 to 64 dimensions, each below 2**32; uint8, int8, int16, int32, float32 or
            float64, in any byte order.

    Raises:
        InputError: IDX cannot hold this dtype or shape.
    """
    code = _CODES.get(array.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(item_type) for item_type in _CODES)
        raise InputError(f"IDX cannot hold dtype {array.dtype}: convert it to one of {known}")
    if not 1 <= array.ndim <= _MAX_DIMENSIONS or max(array.shape) >= 2**32:
        raise InputError(
            f"IDX cannot hold shape {array.shape}: give 1 to {_MAX_DIMENSIONS} dimensions "
            "below 2**32"
        )
    header = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return header + array.astype(_ITEM_TYPES[code], copy=False).tobytes()


def decode(
    data: bytes,
    name: str,
    *,
    dtype: DTypeLike | None = None,
    shape: Sequence[int | None] | None = None,
) -> NDArray[Any]:
    """Give the array that IDX bytes hold, writable and in the machine's byte order.

    Args:
        data: a whole IDX file, unpacked.
        name: what an error calls the data, usually its path.
        dtype: the dtype it must have; None accepts any.
        shape: the shape it must have; None, as a whole or for a dimension, accepts any.

    Raises:
        DataError: not IDX, or another dtype, shape or number of bytes than it should have.
    """
    if len(data) < 4:
        raise _mismatch(name, "at least 4 bytes of IDX header", f"{len(data)} bytes")
    magic, code, dimensions = int.from_bytes(data[:4], "big"), data[2], data[3]
    wanted = _magic_wanted(dtype, shape)
    if data[:2] != b"\0\0" or code not in _ITEM_TYPES or not 1 <= dimensions <= _MAX_DIMENSIONS:
        raise _mismatch(name, wanted or "an IDX magic number", f"magic number 0x{magic:08x}")
    item_type = _ITEM_TYPES[code]
    if dtype is not None and item_type.newbyteorder("=") != np.dtype(dtype):
        raise _mismatch(name, wanted, f"magic number 0x{magic:08x}")
    if shape is not None and dimensions != len(shape):
        raise _mismatch(name, wanted, f"magic number 0x{magic:08x}")
    start = 4 + 4 * dimensions
    if len(data) < start:
        raise _mismatch(name, f"{start} bytes of IDX header", f"{len(data)} bytes")
    found = struct.unpack_from(f">{dimensions}I", data, 4)
    if shape is not None and any(w not in (None, f) for w, f in zip(shape, found, strict=True)):
        raise _mismatch(name, f"shape {_times(shape)}", f"shape {_times(found)}")
    # Python integers: a header of nonsense must not overflow into a plausible size.
    size = start + math.prod(found) * item_type.itemsize
    if len(data) != size:
        raise _mismatch(name, f"{size:,} bytes for shape {_times(found)}", f"{len(data):,} bytes")
    try:
        items = np.frombuffer(data, item_type, offset=start).reshape(found)
    except ValueError as error:  # an empty array with dimensions beyond numpy's reach
        raise _mismatch(name, "a shape that numpy can hold", f"shape {_times(found)}") from error
    return items.astype(item_type.newbyteorder("="))


def read_bytes(path: Path, *, limit: int | None = None) -> bytes:
    """Give the content of a file, unpacked if it is gzip.

    Content decides, not the name: browsers unpack downloads and keep the `.gz`.

    Args:
        path: the file.
        limit: give at most so many bytes, so that a hostile archive cannot fill the memory;
            None gives all.

    Raises:
        DataError: the file is missing, unreadable, or a truncated or corrupt archive.
    """
    amount = -1 if limit is None else limit
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            if not packed:
                return file.read(amount)
            with gzip.GzipFile(fileobj=file) as archive:
                return archive.read(amount)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _mismatch(str(path), "an intact gzip archive", str(error)) from error
    except OSError as error:
        raise DataError(
            f"{path}: expected a readable file, found {type(error).__name__}: "
            "check that it exists and may be read"
        ) from error


def read(
    path: Path,
    *,
    dtype: DTypeLike | None = None,
    shape: Sequence[int | None] | None = None,
) -> NDArray[Any]:
    """Give the array in an IDX file, raw or gzipped; see `decode` for arguments and errors."""
    return decode(read_bytes(path), str(path), dtype=dtype, shape=shape)


def write(path: Path, array: NDArray[Any]) -> None:
    """Write an array as an IDX file, gzipped if the name ends in `.gz`.

    The same array always gives the same bytes: the archive carries no time and no file name.

    Raises:
        InputError: IDX cannot hold this dtype or shape; nothing is written.
        OSError: the file cannot be written.
    """
    data = encode(array)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _magic_wanted(dtype: DTypeLike | None, shape: Sequence[int | None] | None) -> str:
    parts = []
    if dtype is not None:
        parts.append(str(np.dtype(dtype)))
    if shape is not None:
        parts.append(f"{len(shape)} dimensions")
    if dtype is not None and shape is not None:
        code = _CODES[np.dtype(dtype).newbyteorder("=")]
        return f"magic number 0x{code << 8 | len(shape):08x} ({', '.join(parts)})"
    return f"an IDX magic number ({', '.join(parts)})" if parts else ""


def _times(shape: Sequence[int | None]) -> str:
    return "x".join("any" if size is None else str(size) for size in shape)


def _mismatch(name: str, expected: str, found: str) -> DataError:
    return DataError(f"{name}: expected {expected}, found {found}: {_REPLACE}")
