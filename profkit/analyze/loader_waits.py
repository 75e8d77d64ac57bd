"""Why a loop waited for its batches: none was ready, the next one was late, or it was unpacked.

Workers hand batches back in the order in which they were asked for them, so a slow batch keeps
finished ones waiting: head-of-line wait.
"""

import numpy as np

from ..schema.loader import (
    UNKNOWN,
    BoolArray,
    Consumed,
    Int64Array,
    IteratorFacts,
    Produced,
    WorkerBirth,
    select,
)
from ..schema.loader_findings import QueueDepth, StartUp, WaitSplit

STRETCHES = 24
"""Of a run, for each of which the depth of the queue is shown."""
_NEVER = np.iinfo(np.int64).max


def split_waits(produced: Produced, consumed: Consumed, workers: int) -> WaitSplit | None:
    """Means for each batch of one loader; None where none was asked for.

    An epoch's first batch is left out while there are others: it waits for the workers' start.

    Args:
        produced, consumed: of one loader.
        workers: 0 where the loop makes the batches itself.
    """
    if not len(consumed):
        return None
    kept = _after_first(consumed)
    count = int(kept.sum())
    ready, later = (times[kept] for times in _ready_times(produced, consumed))
    consumed = select(consumed, kept)
    wait = consumed.got_ns - consumed.asked_ns
    if not workers:
        making = np.minimum(wait, _made_within(produced, consumed))
        parts = (0.0, 0.0, float((wait - making).mean()), float(making.mean()))
        return WaitSplit(count, float(wait.mean()), *parts)
    known = ready != _NEVER
    # What nobody told of was ready when it came.
    until = np.where(known, np.minimum(ready, consumed.got_ns), consumed.got_ns)
    short = np.maximum(0, until - consumed.asked_ns)
    behind = np.clip(until - np.maximum(consumed.asked_ns, later), 0, short)
    return WaitSplit(
        batches=count,
        wait_ns=float(wait.mean()),
        starvation_ns=float((short - behind).mean()),
        head_of_line_ns=float(behind.mean()),
        receive_ns=float((wait - short).mean()),
        making_ns=0.0,
    )


def queue_depth(produced: Produced, consumed: Consumed, capacity: int) -> QueueDepth | None:
    """Batches that were ready at each request of one loader; None where nothing is known.

    Args:
        produced, consumed: of one loader with workers.
        capacity: batches that they make ahead.
    """
    depths: list[Int64Array] = []
    asked: list[Int64Array] = []
    for epoch in np.unique(consumed.epoch):
        made = select(produced, produced.epoch == epoch).sent_ns
        if not made.size:
            continue
        requests = np.sort(consumed.asked_ns[consumed.epoch == epoch])
        ready = np.searchsorted(np.sort(made), requests, side="right")
        depths.append(np.maximum(0, ready - np.arange(requests.size)))
        asked.append(requests)
    if not depths:
        return None
    depth, when = np.concatenate(depths), np.concatenate(asked)
    order = np.argsort(when, kind="stable")
    depth, when = depth[order], when[order]
    cut = np.array_split(np.arange(depth.size), min(STRETCHES, depth.size))
    return QueueDepth(
        mean=float(depth.mean()),
        empty_share=float((depth == 0).mean()),
        capacity=capacity,
        over_time=tuple(
            (float((when[rows[0]] - when[0]) / 1e9), float(depth[rows].mean())) for rows in cut
        ),
    )


def start_up(
    iterators: tuple[IteratorFacts, ...], births: tuple[WorkerBirth, ...], consumed: Consumed
) -> StartUp | None:
    """What it took until the first batch of an epoch was there; None without workers.

    Args:
        iterators, births, consumed: of one loader.
    """
    making: list[int] = []
    ready: list[int] = []
    first: list[int] = []
    for one in iterators:
        born = [birth.ready_ns for birth in births if birth.epoch == one.epoch]
        got = consumed.got_ns[consumed.epoch == one.epoch]
        # Workers that outlived an epoch start no more.
        if not one.workers or not got.size or (one.persistent and not born):
            continue
        making.append(one.ready_ns - one.began_ns)
        first.append(int(got.min()) - one.began_ns)
        if born:
            ready.append(max(born) - one.began_ns)
    if not making:
        return None
    return StartUp(
        epochs=len(making),
        iterator_ns=float(np.median(making)),
        worker_ns=float(np.median(ready)) if ready else None,
        first_batch_ns=float(np.median(first)),
    )


def _after_first(consumed: Consumed) -> BoolArray:
    """(n,) all but the first batch of each epoch; all of them where no others are left."""
    _, group = np.unique(consumed.epoch, return_inverse=True)
    group = group.reshape(-1)
    first = np.full(group.max() + 1, _NEVER)
    np.minimum.at(first, group, consumed.asked_ns)
    rest: BoolArray = consumed.asked_ns > first[group]
    return rest if rest.any() else np.ones_like(rest)


def _made_within(produced: Produced, consumed: Consumed) -> Int64Array:
    """How long the making of each of the loop's own batches took."""
    spans = dict(zip(_keys(produced), (produced.end_ns - produced.start_ns).tolist(), strict=True))
    return np.array([spans.get(key, 0) for key in _keys(consumed)], np.int64)


def _ready_times(produced: Produced, consumed: Consumed) -> tuple[Int64Array, Int64Array]:
    """For each request: when its batch was ready, and when the first later one was.

    `_NEVER` where that is not known. Without numbers, batches come in the order in which they are
    ready, and no later one can be.
    """
    ready = np.full(len(consumed), _NEVER)
    later = np.full(len(consumed), _NEVER)
    for epoch in np.unique(consumed.epoch):
        rows = np.flatnonzero(consumed.epoch == epoch)
        made = select(produced, produced.epoch == epoch)
        sent = made.sent_ns
        if (consumed.batch[rows] == UNKNOWN).any():
            in_order = np.sort(sent)[: rows.size]
            asked = rows[np.argsort(consumed.asked_ns[rows], kind="stable")]
            ready[asked[: in_order.size]] = in_order
            continue
        if not sent.size:
            continue
        most = int(max(made.batch.max(), consumed.batch[rows].max()))
        by_batch = np.full(most + 2, _NEVER)
        by_batch[made.batch] = sent
        # The least of all later ones.
        following = np.minimum.accumulate(by_batch[::-1])[::-1]
        ready[rows] = by_batch[consumed.batch[rows]]
        later[rows] = following[consumed.batch[rows] + 1]
    return ready, later


def _keys(table: Produced | Consumed) -> list[tuple[int, int]]:
    return list(zip(table.epoch.tolist(), table.batch.tolist(), strict=True))
