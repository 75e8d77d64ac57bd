"""A DataLoader and its consumer, replayed: which batch is ready when, and how long a step takes.

Workers take batches in turns and hand them back in the order in which they were asked for; each
has at most so many on order. The closed form max(p / W, c) is off by -10 % where batches vary by
0.3 of their mean, and by -44 % with 2 % of stragglers, so every batch is replayed.

Source: torch's own `_MultiProcessingDataLoaderIter`; the recurrence is in FACTS of the design.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Batches:
    """What each batch took, in the order in which the loop asked for them; all (..., n) in ns.

    Attributes:
        ordering: from when it is due to be ordered until a worker without work begins it: the
            order waits for the loop's interpreter, and the worker for a core.
        starting: from its worker's batch before until it begins this one, ordered already.
        making: fetching and collating, where it was made.
        handing: from then on until it was there: serialising, sending.
        pinning: copying it to pinned memory, in a thread of its own.
        receiving: reading and unpacking it, in the loop or in that thread.
        answering: more of the same, while its worker makes another batch and answers late: its
            interpreter runs one thread at a time.
        using: from the batch to the next request.
    """

    ordering: Times
    starting: Times
    making: Times
    handing: Times
    pinning: Times
    receiving: Times
    answering: Times
    using: Times

    def __len__(self) -> int:
        return int(self.making.shape[-1])

    @classmethod
    def of_the_loop(cls, making: Times, using: Times) -> "Batches":
        """Batches that the loop makes itself."""
        none = np.zeros_like(using)
        return cls(none, none, making, none, none, none, none, using)

    def times(self, factor: float) -> "Batches":
        """The same, where all that it takes until the loop has them is so many times as long."""
        return Batches(
            self.ordering * factor,
            self.starting * factor,
            self.making * factor,
            self.handing * factor,
            self.pinning * factor,
            self.receiving * factor,
            self.answering * factor,
            self.using,
        )

    def pick(self, rows: Rows) -> "Batches":
        """These batches, in this order; (r, m) rows give r sequences of m."""
        return Batches(
            self.ordering[rows],
            self.starting[rows],
            self.making[rows],
            self.handing[rows],
            self.pinning[rows],
            self.receiving[rows],
            self.answering[rows],
            self.using[rows],
        )


def replay(batches: Batches, workers: int, prefetch: int, *, pins: bool = False) -> Times:
    """What each step takes, from one request to the next.

    Args:
        batches: n of them; leading axes are sequences of their own.
        workers: 0 where the loop makes its batches itself.
        prefetch: batches that each worker has on order.
        pins: whether a thread receives and pins them.

    Returns:
        (..., n) in ns. With workers the first `workers * prefetch` steps live on a lead that
        the workers win while the first batch is waited for, or are late for the lack of one.
    """
    if workers == 0:
        return batches.making + batches.pinning + batches.using
    if batches.making.ndim == 1:
        alone = batches.pick(np.arange(len(batches))[None])
        steps: Times = replay(alone, workers, prefetch, pins=pins)[0]
        return steps
    count, on_order = len(batches), workers * prefetch
    line = _Line(batches, workers)
    line.order(on_order, line.started)
    ended, pinned = line.started, line.started
    ends = np.zeros_like(batches.making)
    for i in range(count):
        if pins:
            pinned = line.receive(i, pinned) + batches.pinning[:, i]
            got = np.maximum(ended, pinned)
        else:
            got = line.receive(i, ended)
        line.order(i + 1 + on_order, got)
        ended = got + batches.using[:, i]
        ends[:, i] = ended
    return np.diff(ends, axis=-1, prepend=0.0)


class _Line:
    """Batches on their way: those that were ordered, in the queue of those that are ready.

    Args:
        batches: that are ordered in turn, (r, n): n in each of r sequences.
        workers: that make them.
    """

    def __init__(self, batches: Batches, workers: int) -> None:
        self.started = np.zeros(batches.making.shape[0])
        self._every = np.arange(batches.making.shape[0])
        self._batches = batches
        self._ordered = 0
        self._free = [self.started] * workers
        self._began = np.zeros_like(batches.making)
        self._made = np.zeros_like(batches.making)
        self._ready = np.zeros_like(batches.making)
        self._is_received = np.zeros(batches.making.shape, np.bool_)

    def order(self, until: int, when: Times) -> None:
        """Order the batches before `until` that are not yet ordered."""
        batches, workers = self._batches, len(self._free)
        for i in range(self._ordered, min(until, len(batches))):
            free = self._free[i % workers] + batches.starting[:, i]
            began = np.maximum(when + batches.ordering[:, i], free)
            made = began + batches.making[:, i]
            self._free[i % workers] = made
            self._began[:, i], self._made[:, i] = began, made
            self._ready[:, i] = made + batches.handing[:, i]
            self._ordered = i + 1

    def receive(self, i: int, since: Times) -> Times:
        """When batch i has been received, by one who is free `since` then.

        What was ready before it is received before it.
        """
        window = slice(i, self._ordered)
        while not (has_it := self._is_received[:, i]).all():
            waiting = np.where(self._is_received[:, window], np.inf, self._ready[:, window])
            first = (self._every, i + waiting.argmin(axis=1))
            began = np.maximum(since, self._ready[first])
            answered = np.minimum(self._batches.answering[first], self._busy(*first, began))
            received = began + self._batches.receiving[first] + answered
            since = np.where(has_it, since, received)
            self._is_received[first] |= ~has_it
        return since

    def _busy(self, every: Rows, made: Rows, when: Times) -> Times:
        """How long the maker of each of these batches goes on making one, at that time."""
        busy = np.zeros_like(when)
        while ((made := made + len(self._free)) < self._ordered).any():
            following = (every, np.minimum(made, self._ordered - 1))
            is_making = (made < self._ordered) & (self._began[following] <= when)
            left = np.where(is_making, self._made[following] - when, 0.0)
            busy = np.maximum(busy, left)
        return busy


def settled(workers: int, prefetch: int) -> int:
    """Steps until a replay no longer remembers how it began."""
    return 2 * workers * prefetch + workers
