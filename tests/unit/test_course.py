"""What a replay starts from, taken from a record whose every moment is known."""

from typing import Any

import numpy as np
import pytest

from conftest import make_run, make_steps
from profkit.analyze.course import Course, course_of
from profkit.analyze.loader_model import replay
from profkit.schema.loader import (
    UNKNOWN,
    Consumed,
    IteratorFacts,
    LoaderRecord,
    Produced,
    columns,
)
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage

MS = 1_000_000
MADE = [(0, 10), (12, 22), (24, 34), (36, 46), (49, 59), (70, 80), (91, 101)]
"""Each batch, from and until when its one worker made it; sent 1 ms later."""
GOT = [(0, 13), (15, 25), (27, 37), (39, 62), (67, 69), (87, 89), (107, 109)]
"""When the loop asked for each, and when it had it."""


def table(kind: Any, rows: list[dict[str, int]]) -> Any:
    return kind(*(np.array([row.get(name, 0) for row in rows], np.int64) for name in columns(kind)))


def record(in_order: bool = True) -> LoaderRecord:
    made = [
        {"batch": i, "start_ns": a * MS, "end_ns": b * MS, "sent_ns": (b + 1) * MS, "cpu_ns": MS}
        for i, (a, b) in enumerate(MADE)
    ]
    got = [
        {
            "batch": i if in_order else UNKNOWN,
            "asked_ns": a * MS,
            "got_ns": b * MS,
            "arrived_ns": b * MS,
            "receive_ns": MS // 2,
        }
        for i, (a, b) in enumerate(GOT)
    ]
    facts = IteratorFacts(0, 0, 1, 2, in_order, False, False, "fork", 0, 0)
    return LoaderRecord((facts,), (), table(Produced, made), table(Consumed, got), ())


def course(in_order: bool = True) -> Course:
    steps = make_steps({Stage.FORWARD: 2 * MS}, len(GOT) - 1)
    asked = np.array([asked for asked, _ in GOT]) * MS
    steps.start_ns[:], steps.end_ns[:] = asked[:-1], asked[1:]
    run = make_run(steps, loader=LoaderFacts("DataLoader", 4, 1, 2, 0))
    return course_of(run, record(in_order))


def test_every_wait_of_a_batch_has_its_name() -> None:
    found = course()
    told = found.batches
    # The first batch waits for the worker's start, the last one's step has no end.
    assert len(found) == 5
    assert (told.making / MS).tolist() == [10, 10, 10, 10, 10]
    assert (told.handing / MS).tolist() == [1, 1, 1, 1, 1]
    # Batches 1 to 4 were ordered while their worker made another; 5 at 62, when it had no work.
    assert (told.starting / MS).tolist()[:4] == [2, 2, 2, 3]
    assert told.ordering[4] / MS == 8
    assert (told.using / MS).tolist() == [2, 2, 5, 18, 18]
    # Sent at 23, 35 and 47, asked for at 67 and 87.
    assert ((told.receiving + told.answering) / MS).tolist() == [2, 2, 15, 2, 2]
    # From 49 to 59 batch 3's worker made another; what is more than the usual 2 ms is due to that.
    assert told.answering[2] / MS == pytest.approx(10)
    assert told.answering[3] == told.answering[4] == 0


def test_an_unchanged_replay_takes_what_was_measured() -> None:
    found = course()
    steps = replay(found.batches, found.workers or 0, found.prefetch)
    assert steps.sum() == pytest.approx(found.steps_ns.sum(), rel=0.1)


def test_batches_that_come_as_they_are_ready_are_said_to_be_untold() -> None:
    found = course(in_order=False)
    assert found.workers is None
    assert found.untold.startswith("which worker made which batch is not known")
