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
        making: fetching and collating, where it was made.
        handing: from then on until it was there: serialising, sending.
        pinning: copying it to pinned memory, in a thread of its own.
        receiving: reading and unpacking it, in the loop or in that thread.
        answering: more of the same, while its worker makes another batch and answers late: its
            interpreter runs one thread at a time.
        using: from the batch to the next request.
    """

    making: Times
    handing: Times
    pinning: Times
    receiving: Times
    answering: Times
    using: Times

    def __len__(self) -> int:
        return int(self.making.shape[-1])

    def pick(self, rows: Rows) -> "Batches":
        """These batches, in this order; (r, m) rows give r sequences of m."""
        return Batches(
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
    count = len(batches)
    shape = batches.making.shape[:-1]
    free = [np.zeros(shape) for _ in range(workers)]
    got: list[Times] = []
    ended = np.zeros(shape)
    pinned = np.zeros(shape)
    on_order = workers * prefetch
    ends = np.zeros((*shape, count))
    for i in range(count):
        # It is ordered when an earlier batch is handed out.
        ordered = got[i - on_order] if i >= on_order else np.zeros(shape)
        began = np.maximum(ordered, free[i % workers])
        made = began + batches.making[..., i]
        free[i % workers] = made
        ready = made + batches.handing[..., i]
        began_receiving = np.maximum(ready, pinned if pins else ended)
        busy = _busy_until(batches, i, workers, on_order, made, got) - began_receiving
        answered = np.minimum(batches.answering[..., i], np.maximum(0.0, busy))
        received = began_receiving + batches.receiving[..., i] + answered
        if pins:
            pinned = received + batches.pinning[..., i]
            received = np.maximum(ended, pinned)
        got.append(received)
        ended = got[-1] + batches.using[..., i]
        ends[..., i] = ended
    return np.diff(ends, axis=-1, prepend=0.0)


def _busy_until(
    batches: Batches, i: int, workers: int, on_order: int, made: Times, got: list[Times]
) -> Times:
    """When the worker that made batch i, at `made`, is done with the next one."""
    following = i + workers
    if following >= len(batches) or on_order == workers:
        return made  # none, or none that was ordered before this one is handed out
    ordered = got[following - on_order] if following >= on_order else np.zeros_like(made)
    done: Times = np.maximum(ordered, made) + batches.making[..., following]
    return done


def settled(workers: int, prefetch: int) -> int:
    """Steps until a replay no longer remembers how it began."""
    return 2 * workers * prefetch + workers
