import os
from collections.abc import Iterator

import numpy as np
import pytest

from conftest import make_steps
from profkit.errors import RunError
from profkit.schema.stage import Stage
from profkit.store.frames import (
    Kind,
    pack_count,
    pack_steps,
    read_frame,
    unpack_count,
    unpack_steps,
    write_frame,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_frames_come_out_as_they_went_in(pipe: tuple[int, int]) -> None:
    write_frame(pipe[1], Kind.GO, pack_count(12))
    write_frame(pipe[1], Kind.LEAVE)
    asked = read_frame(pipe[0])
    assert asked is not None
    assert (asked[0], unpack_count(asked[1])) == (Kind.GO, 12)
    assert read_frame(pipe[0]) == (Kind.LEAVE, b"")


def test_steps_come_out_as_they_went_in() -> None:
    steps = make_steps({Stage.FORWARD: 30, Stage.DATALOADER: 12}, 7)
    found, drain_ns = unpack_steps(pack_steps(steps, 5), "base")
    assert drain_ns == 5
    for name in ("start_ns", "end_ns", "stage_ns", "marked", "samples", "flags"):
        assert np.array_equal(getattr(found, name), getattr(steps, name)), name


def test_the_end_of_a_pipe_is_none_even_within_a_frame(pipe: tuple[int, int]) -> None:
    write_frame(pipe[1], Kind.BLOCK, b"whole")
    os.write(pipe[1], b"\x02\xff")
    os.close(pipe[1])
    assert read_frame(pipe[0]) == (Kind.BLOCK, b"whole")
    assert read_frame(pipe[0]) is None
    assert read_frame(pipe[0]) is None


def test_something_else_on_the_pipe_is_refused(pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"print from a child")
    with pytest.raises(RunError, match="something else"):
        read_frame(pipe[0])


@pytest.mark.parametrize("content", [b"", b"12345678", b"12345678 and what is no table"])
def test_what_holds_no_steps_is_refused(content: bytes) -> None:
    with pytest.raises(RunError, match="base sent no steps"):
        unpack_steps(content, "base")
