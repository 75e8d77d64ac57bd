"""The replay of a loader, where the truth can be told by hand, and by a program that plays it."""

import heapq

import numpy as np
import pytest

from profkit.analyze.loader_model import Batches, replay, settled


def batches(making: object, using: object, **more: object) -> Batches:
    made = np.asarray(making, np.float64)
    none = np.zeros_like(made)
    rest = {
        name: np.broadcast_to(np.asarray(more.get(name, none), np.float64), made.shape)
        for name in ("ordering", "starting", "handing", "pinning", "receiving", "answering")
    }
    used = np.broadcast_to(np.asarray(using, np.float64), made.shape)
    return Batches(making=made, using=used, **rest)


def steady(making: float, using: float, workers: int, prefetch: int = 2, **more: object) -> float:
    found = replay(batches([making] * 200, using, **more), workers, prefetch)
    return float(found[settled(workers, prefetch) :].mean())


@pytest.mark.parametrize(("workers", "step"), [(0, 14.0), (1, 10.0), (2, 5.0), (3, 4.0), (8, 4.0)])
def test_even_batches_take_what_the_slower_side_takes(workers: int, step: float) -> None:
    assert steady(10, 4, workers) == pytest.approx(step, rel=0.02)


def test_a_late_batch_keeps_the_ready_ones_waiting() -> None:
    """One worker in two always makes the slow ones: the other one helps only a step ahead."""
    making = np.where(np.arange(200) % 2 == 0, 20.0, 1.0)
    found = replay(batches(making, 1.0), 2, 2)
    # Both wait for the slow one's pace: a pair of batches every 20.
    assert found[20:].mean() == pytest.approx(10, rel=0.02)


def test_receiving_belongs_to_the_loop_and_pinning_to_a_thread() -> None:
    assert steady(1, 4, 2, receiving=2.0) == pytest.approx(6)
    many = batches([1.0] * 100, 4.0, receiving=2.0, pinning=1.0)
    assert replay(many, 2, 2, pins=True)[20:].mean() == pytest.approx(4)
    slow = batches([1.0] * 100, 4.0, receiving=2.0, pinning=5.0)
    assert replay(slow, 2, 2, pins=True)[20:].mean() == pytest.approx(7)


def test_a_worker_answers_late_only_while_it_makes_another_batch() -> None:
    # Both workers are far ahead, and idle.
    assert steady(1, 10, 2, answering=5.0) == pytest.approx(10)
    # The loop is the faster one, but has to wait for the worker anyhow; unpacking is its own.
    assert steady(10, 8, 1, answering=5.0) == pytest.approx(10, rel=0.02)
    assert steady(10, 8, 1, receiving=5.0) == pytest.approx(13, rel=0.02)
    # One of two workers is late now and then, and answers late while it is.
    making = np.where(np.arange(400) % 8 == 0, 40.0, 4.0)
    quick, late = (
        replay(batches(making, 6.0, answering=ns), 2, 2)[50:].mean() for ns in (0.0, 5.0)
    )
    assert quick < late < quick + 5


def test_a_longer_queue_helps_where_batches_vary() -> None:
    draw = np.random.default_rng(0)
    making = draw.gamma(2.0, 4.0, 4_000)
    short, long = (replay(batches(making, 4.0), 2, depth)[50:].mean() for depth in (1, 16))
    assert long < short


def test_many_sequences_at_once_are_as_one_by_one() -> None:
    draw = np.random.default_rng(1)
    one = batches(draw.gamma(2, 5, 100), draw.gamma(2, 2, 100))
    rows = draw.integers(100, size=(3, 60))
    together = replay(one.pick(rows), 3, 2)
    for i, row in enumerate(rows):
        assert np.array_equal(together[i], replay(one.pick(row), 3, 2))


def played(lot: Batches, workers: int, prefetch: int) -> list[float]:
    """The same by events: workers with queues of orders, and a loop that reads one queue."""
    orders: list[list[tuple[int, float]]] = [[] for _ in range(workers)]
    begun: list[tuple[float, float]] = [(0.0, 0.0)] * workers  # what each makes: from, until
    queue: list[int] = []
    events: list[tuple[float, int, str]] = []
    received: set[int] = set()
    sent, turn, now, ends = 0, 0, 0.0, []

    def order() -> None:
        nonlocal sent
        if sent < len(lot):
            orders[sent % workers].append((sent, now + lot.ordering[sent]))
            begin(sent % workers)
            sent += 1

    def begin(worker: int) -> None:
        if begun[worker][1] <= now and orders[worker]:
            batch, earliest = orders[worker].pop(0)
            begins = max(begun[worker][1] + lot.starting[batch], earliest)
            begun[worker] = (begins, begins + lot.making[batch])
            heapq.heappush(events, (begun[worker][1], batch, "made"))

    for _ in range(workers * prefetch):
        order()
    loop_is_free = True
    while events or loop_is_free:
        if loop_is_free and turn in received:
            order()
            heapq.heappush(events, (now + lot.using[turn], turn, "used"))
            loop_is_free = False
            turn += 1
            continue
        if loop_is_free and queue:
            batch = queue.pop(0)
            since, until = begun[batch % workers]
            busy = max(0.0, until - now) if since <= now else 0.0
            taken = lot.receiving[batch] + min(lot.answering[batch], busy)
            heapq.heappush(events, (now + taken, batch, "received"))
            loop_is_free = False
            continue
        if not events:
            break
        now, batch, what = heapq.heappop(events)
        if what == "made":
            heapq.heappush(events, (now + lot.handing[batch], batch, "ready"))
            begin(batch % workers)
        elif what == "ready":
            queue.append(batch)
        else:
            loop_is_free = True
            if what == "used":
                ends.append(now)
            else:
                received.add(batch)
    return np.diff(ends, prepend=0.0).tolist()


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("prefetch", [1, 2, 4])
def test_the_recurrence_is_what_a_played_loader_does(workers: int, prefetch: int) -> None:
    draw = np.random.default_rng(workers * 10 + prefetch)
    shapes = {"ordering": 1, "starting": 0.5, "handing": 1, "receiving": 1, "answering": 3}
    rest = {name: scale * draw.gamma(2, 1, 80) for name, scale in shapes.items()}
    lot = batches(draw.gamma(2, 5, 80), draw.gamma(2, 3, 80), **rest)
    found = replay(lot, workers, prefetch)
    assert found == pytest.approx(played(lot, workers, prefetch))
