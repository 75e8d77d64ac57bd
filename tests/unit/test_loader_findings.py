"""Costs and waits of batches, from made-up records with a known truth."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from profkit.analyze.loader_costs import producer_cost
from profkit.analyze.loader_findings import examine_loader
from profkit.analyze.loader_waits import queue_depth, split_waits, start_up
from profkit.schema.loader import (
    UNKNOWN,
    Consumed,
    Detail,
    IteratorFacts,
    LoaderRecord,
    PartKind,
    PartTime,
    Produced,
    WorkerBirth,
    columns,
)

MS = 1_000_000


def table(kind: Any, rows: list[dict[str, int]], **default: int) -> Any:
    return kind(
        *(
            np.array([row.get(name, default.get(name, 0)) for row in rows], np.int64)
            for name in columns(kind)
        )
    )


def produced(*rows: dict[str, int], **default: int) -> Produced:
    sent = [{"sent_ns": row.get("end_ns", 0)} | row for row in rows]
    made: Produced = table(Produced, sent, **{"core_wait_ns": UNKNOWN} | default)
    return made


def consumed(*rows: dict[str, int], **default: int) -> Consumed:
    asked: Consumed = table(Consumed, list(rows), **default)
    return asked


def batches(count: int, each_ns: int = 10 * MS, **more: int) -> list[dict[str, int]]:
    return [
        {"batch": i, "start_ns": i * each_ns, "end_ns": (i + 1) * each_ns, "cpu_ns": each_ns} | more
        for i in range(count)
    ]


# Costs


def test_parts_are_held_against_batches_that_were_not_slowed_by_timing_them() -> None:
    rows = batches(10)
    rows[1]["detailed"] = 1
    rows[1]["end_ns"] += 5 * MS  # more than timing is known to cost
    parts = (PartTime(PartKind.TRANSFORM, "A", 5 * MS, 4),)
    found = producer_cost(produced(*rows), [Detail(0, 0, 1, parts, timing_ns=MS)])
    assert found is not None
    assert {one.name: one.share for one in found.parts} == {None: 0.5, "A": 0.5}


def test_a_dear_batch_is_not_taken_for_one_that_timing_slowed() -> None:
    rows = batches(40)
    for i, row in enumerate(rows):
        row["end_ns"] = row["start_ns"] + (14 if i % 2 else 6) * MS
    rows[3]["detailed"] = 1
    parts = (PartTime(PartKind.TRANSFORM, "A", 7 * MS, 4),)
    found = producer_cost(produced(*rows), [Detail(0, 0, 3, parts, timing_ns=0)])
    assert found is not None
    assert {one.name: one.share for one in found.parts} == {None: 0.5, "A": 0.5}


def test_the_parts_sum_to_the_batch() -> None:
    rows = batches(10, collate_ns=2 * MS, serialise_ns=MS, transfer_ns=MS, samples=4)
    rows[1]["detailed"] = 1
    rows[1]["end_ns"] += MS  # what timing its parts costs it
    parts = (
        PartTime(PartKind.TRANSFORM, "A", 5 * MS, 4),
        PartTime(PartKind.DECODE, "B", 1 * MS, 4),
    )
    found = producer_cost(produced(*rows), [Detail(0, 0, 1, parts, timing_ns=MS)])
    assert found is not None
    assert (found.batches, found.detailed, found.samples) == (9, 1, 4)
    assert found.batch_ns.value == pytest.approx(12 * MS)
    assert {(one.kind, one.name): round(one.batch_ns / MS, 6) for one in found.parts} == {
        (PartKind.TRANSFORM, "A"): 5,
        (PartKind.DECODE, "B"): 1,
        (PartKind.COLLATE, None): 2,
        (PartKind.FETCH, None): 2,
        (PartKind.SERIALISE, None): 1,
        (PartKind.TRANSFER, None): 1,
    }
    assert sum(one.share for one in found.parts) == pytest.approx(1)
    assert found.parts[0].calls == 4
    assert found.cpu_share == pytest.approx(1)
    assert found.core_wait_share is None


def test_the_first_batch_of_a_worker_pays_for_imports_and_does_not_count() -> None:
    rows = batches(6)
    rows[0]["end_ns"] += 500 * MS
    found = producer_cost(produced(*rows), [])
    assert found is not None
    assert found.batch_ns.value == pytest.approx(10 * MS)
    alone = producer_cost(produced(rows[0]), [])
    assert alone is not None
    assert alone.batch_ns.value == pytest.approx(510 * MS)


def test_what_is_called_while_collating_is_no_part_of_fetching() -> None:
    rows = batches(4, collate_ns=6 * MS)
    rows[1]["detailed"] = 1
    parts = (PartTime(PartKind.TRANSFORM, "A", 5 * MS, 4),)
    found = producer_cost(produced(*rows), [Detail(0, 0, 1, parts, 0, in_collate_ns=5 * MS)])
    assert found is not None
    assert {one.name or one.kind.value: round(one.batch_ns / MS, 6) for one in found.parts} == {
        "A": 5,
        "fetch": 4,
        "collate": 1,
    }


def test_waiting_for_cores_is_told_from_waiting_for_files() -> None:
    rows = batches(5)
    for row in rows:
        row["cpu_ns"] = 4 * MS
        row["core_wait_ns"] = 3 * MS
    found = producer_cost(produced(*rows), [])
    assert found is not None
    assert found.cpu_share == pytest.approx(0.4)
    assert found.core_wait_share == pytest.approx(0.3)
    assert found.blocked_share == pytest.approx(0.3)


def test_nothing_told_is_nothing_found() -> None:
    assert producer_cost(produced(), []) is None


# Waits


def test_starvation_is_told_from_a_late_batch_before_ready_ones() -> None:
    made = produced(
        {"batch": 0, "start_ns": 0, "end_ns": 100},
        {"batch": 1, "start_ns": 0, "end_ns": 300},
        {"batch": 2, "start_ns": 100, "end_ns": 200},
    )
    asked = consumed(
        {"batch": 0, "asked_ns": 0, "got_ns": 110},
        {"batch": 1, "asked_ns": 150, "got_ns": 310},
        {"batch": 2, "asked_ns": 320, "got_ns": 325},
    )
    found = split_waits(made, asked, 2)
    assert found is not None
    assert found.batches == 2, "an epoch's first batch waits for the workers' start"
    # The second: 50 ns nothing is ready, 100 the third one is, 10 to receive it.
    assert found.starvation_ns == pytest.approx(50 / 2)
    assert found.head_of_line_ns == pytest.approx(100 / 2)
    assert found.receive_ns == pytest.approx((10 + 5) / 2)
    assert found.wait_ns == pytest.approx((160 + 5) / 2)


def test_a_loop_that_makes_its_batches_waits_for_nothing_else() -> None:
    made = produced(*batches(3))
    asked = consumed(
        *({"batch": i, "asked_ns": i * 10 * MS, "got_ns": (i + 1) * 10 * MS} for i in range(3))
    )
    found = split_waits(made, asked, 0)
    assert found is not None
    assert (found.making_ns, found.wait_ns, found.starvation_ns) == (10 * MS, 10 * MS, 0)


def test_batches_that_come_as_they_are_ready_never_stand_in_line() -> None:
    made = produced(
        {"batch": 0, "end_ns": 300}, {"batch": 1, "end_ns": 100}, {"batch": 2, "end_ns": 200}
    )
    asked = consumed(
        {"batch": UNKNOWN, "asked_ns": 0, "got_ns": 100},
        {"batch": UNKNOWN, "asked_ns": 150, "got_ns": 200},
        {"batch": UNKNOWN, "asked_ns": 250, "got_ns": 300},
    )
    found = split_waits(made, asked, 2)
    assert found is not None
    assert (found.head_of_line_ns, found.starvation_ns) == (0, 50)


def test_the_queue_is_as_deep_as_batches_are_ready() -> None:
    made = produced(*({"batch": i, "end_ns": 10 * i} for i in range(8)))
    asked = consumed(*({"batch": i, "asked_ns": 35 + i, "got_ns": 36 + i} for i in range(4)))
    found = queue_depth(made, asked, 8)
    assert found is not None
    # Four are ready at 35 ns, and one is taken each time.
    assert [depth for _, depth in found.over_time] == [4, 3, 2, 1]
    assert (found.mean, found.empty_share, found.capacity) == (2.5, 0, 8)


def test_a_batch_that_nobody_told_of_is_ready_when_it_comes() -> None:
    asked = consumed(
        {"batch": 0, "asked_ns": 0, "got_ns": 5}, {"batch": 1, "asked_ns": 10, "got_ns": 30}
    )
    found = split_waits(produced(), asked, 2)
    assert found is not None
    assert (found.starvation_ns, found.receive_ns) == (20, 0)


# Start-up and the whole


def facts(epoch: int = 0, workers: int = 2, **more: Any) -> IteratorFacts:
    return IteratorFacts(
        loader=0,
        epoch=epoch,
        workers=workers,
        prefetch=2 if workers else 0,
        in_order=True,
        pins=False,
        persistent=False,
        method="fork" if workers else None,
        began_ns=more.get("began_ns", 0),
        ready_ns=more.get("ready_ns", 0),
    )


def test_start_up_ends_with_the_first_batch() -> None:
    iterators = (facts(began_ns=100, ready_ns=150),)
    births = (WorkerBirth(0, 0, 0, 170), WorkerBirth(0, 0, 1, 180))
    found = start_up(iterators, births, consumed({"asked_ns": 160, "got_ns": 300}))
    assert found is not None
    assert (found.iterator_ns, found.worker_ns, found.first_batch_ns) == (50, 80, 200)
    assert start_up((facts(workers=0),), (), consumed({"got_ns": 300})) is None


def test_workers_that_outlive_an_epoch_start_once() -> None:
    iterators = tuple(
        replace(facts(epoch, began_ns=1_000 * epoch, ready_ns=1_000 * epoch + 50), persistent=True)
        for epoch in range(3)
    )
    asked = consumed(*({"epoch": i, "got_ns": 1_000 * i + 300} for i in range(3)))
    found = start_up(iterators, (WorkerBirth(0, 0, 0, 170),), asked)
    assert found is not None
    assert (found.epochs, found.worker_ns, found.first_batch_ns) == (1, 170, 300)


def record(made: Produced, asked: Consumed) -> LoaderRecord:
    return LoaderRecord((facts(),), (), made, asked, ())


def test_batches_that_nobody_told_of_are_a_gap() -> None:
    asked = consumed(*({"batch": i, "asked_ns": i, "got_ns": i} for i in range(10)))
    # Four of those that were made were never asked for.
    made = [*batches(4), *({"batch": 20 + i} for i in range(4))]
    found = examine_loader(record(produced(*made), asked))
    assert found.gaps == (
        "6 of 10 batches were not told of by whoever made them: their costs are missing",
    )
