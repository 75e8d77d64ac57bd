import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from profkit.errors import DataError, InputError
from profkit.workloads import idx

DTYPES = ("u1", "i1", "i2", "i4", "f4", "f8")
any_array = st.sampled_from(DTYPES).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(max_dims=4, min_side=0, max_side=5))
)


@given(any_array)
def test_written_and_read_is_the_same(array: np.ndarray) -> None:  # type: ignore[type-arg]
    found = idx.decode(idx.encode(array), "it")
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_archives_are_known_by_content(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for name, content in (("a.gz", gzip.compress(idx.encode(array))), ("b.gz", idx.encode(array))):
        (tmp_path / name).write_bytes(content)
        assert idx.read(tmp_path / name).tolist() == array.tolist()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes"),
        (b"\x89PNG\r\n\x1a\n", "0x89504e47"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x09abc", "11 bytes"),
        (b"\x00\x00\x08\x03\x00\x00", "6 bytes"),
    ],
)
def test_what_is_not_idx_is_one_line(content: bytes, found: str) -> None:
    with pytest.raises(DataError) as caught:
        idx.decode(content, "labels")
    message = str(caught.value)
    assert message.startswith("labels: expected ")
    assert found in message
    assert "\n" not in message


def test_another_shape_or_type_is_refused() -> None:
    data = idx.encode(np.zeros((2, 3), np.uint8))
    with pytest.raises(DataError, match="expected"):
        idx.decode(data, "it", dtype="uint8", shape=(3, 2))
    with pytest.raises(DataError, match="expected"):
        idx.decode(data, "it", dtype="int32")
    with pytest.raises(InputError, match="complex"):
        idx.encode(np.zeros(2, np.complex64))
