"""What a batch costs its producer, and which parts that is made of."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..schema.loader import UNKNOWN, Detail, PartKind, Produced, select
from ..schema.loader_findings import PartCost, ProducerCost
from .statistics import mean_of_blocks, split_evenly

TARGET_BLOCKS = 20
MOST_SHOWN = 48
SURELY = 2.0
"""Standard errors by which timed batches must be dearer than others, for timing to be the reason:
where batches differ, a few may be dearer by chance."""


def producer_cost(produced: Produced, details: Sequence[Detail]) -> ProducerCost | None:
    """What one batch costs; None where none was told of.

    The first batch that each worker makes in an epoch is left out while there are others: it pays
    for imports and cold caches. What timing the parts cost is left out too: totals come from the
    batches whose parts were not timed while there are some, shares of the parts from the others.

    Args:
        produced: batches of one loader.
        details: of the same.
    """
    if not len(produced):
        return None
    kept = _after_first(produced)
    plain = select(kept, kept.detailed == 0)
    timed = select(kept, kept.detailed == 1)
    whole = plain if len(plain) else kept
    making = (whole.end_ns - whole.start_ns).astype(np.float64)
    handing = (whole.serialise_ns + whole.transfer_ns).astype(np.float64)
    order = np.argsort(whole.start_ns, kind="stable")
    cut = [
        order[low:high] for low, high in split_evenly(order.size, min(TARGET_BLOCKS, order.size))
    ]
    total = making + handing
    batch = mean_of_blocks(
        np.array([total[block].sum() for block in cut]),
        np.array([block.size for block in cut], np.float64),
        beyond=True,
    )
    samples = whole.samples[whole.samples != UNKNOWN]
    asked = whole.core_wait_ns != UNKNOWN
    median, p95 = np.quantile(making, (0.5, 0.95))
    cpu_share = min(1.0, float(whole.cpu_ns.sum() / max(1.0, making.sum())))
    return ProducerCost(
        batches=len(kept),
        detailed=len(timed),
        batch_ns=batch,
        median_ns=float(median),
        p95_ns=float(p95),
        cpu_share=cpu_share,
        # Two clocks of the kernel: together they may say a little more than there was.
        core_wait_share=min(
            1 - cpu_share,
            float(whole.core_wait_ns[asked].sum() / max(1.0, making[asked].sum())),
        )
        if asked.any()
        else None,
        samples=float(samples.mean()) if samples.size else None,
        parts=_parts(whole, timed, details, batch.value),
    )


def _after_first(produced: Produced) -> Produced:
    """Without the first batch of each worker in each epoch, where others are left."""
    keys = np.stack([produced.loader, produced.epoch, produced.worker], axis=1)
    _, group = np.unique(keys, axis=0, return_inverse=True)
    group = group.reshape(-1)
    first = np.full(group.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, group, produced.start_ns)
    rest = produced.start_ns > first[group]
    return select(produced, rest) if rest.any() else produced


def _parts(
    whole: Produced, timed: Produced, details: Sequence[Detail], batch_ns: float
) -> tuple[PartCost, ...]:
    """Parts that sum to what a batch costs."""
    count = max(1, len(whole))
    collate_ns = float(whole.collate_ns.sum()) / count
    found = [
        PartCost(PartKind.SERIALISE, None, float(whole.serialise_ns.sum()) / count, 0.0),
        PartCost(PartKind.TRANSFER, None, float(whole.transfer_ns.sum()) / count, 0.0),
    ]
    making_ns = batch_ns - sum(part.batch_ns for part in found)
    named, in_collate = _named(whole, timed, details)
    shares = {key: share for key, (share, _) in named.items()}
    excess = max(1.0, sum(shares.values()))  # never more than there is
    for (kind, name), (share, calls) in named.items():
        found.append(PartCost(kind, name, share / excess * making_ns, 0.0, calls))
    collate_ns = max(0.0, collate_ns - in_collate / excess * making_ns)
    taken = sum(part.batch_ns for part in found[2:])
    collate_ns = min(collate_ns, max(0.0, making_ns - taken))
    found.append(PartCost(PartKind.COLLATE, None, collate_ns, 0.0))
    found.append(PartCost(PartKind.FETCH, None, making_ns - taken - collate_ns, 0.0))
    full = [
        PartCost(one.kind, one.name, one.batch_ns, one.batch_ns / batch_ns, one.calls)
        for one in found
        if one.batch_ns > 0
    ]
    return tuple(sorted(full, key=lambda one: -one.batch_ns)[:MOST_SHOWN])


def _named(
    whole: Produced, timed: Produced, details: Sequence[Detail]
) -> tuple[dict[tuple[PartKind, str], tuple[float, float]], float]:
    """By part: its share of fetching and collating and its calls in each batch.

    Also what the parts took, as a share likewise, while samples were put together.
    """
    rows = {key: i for i, key in enumerate(zip(*(c.tolist() for c in _places(timed)), strict=True))}
    known = [one for one in details if (one.loader, one.epoch, one.batch) in rows]
    if not known:
        return {}, 0.0
    spans = timed.end_ns - timed.start_ns
    own = np.array(
        [spans[rows[(one.loader, one.epoch, one.batch)]] - one.timing_ns for one in known],
        np.float64,
    )
    making = float(own.sum()) - own.size * _slowed(own, whole)
    if making <= 0:
        return {}, 0.0
    totals: defaultdict[tuple[PartKind, str], int] = defaultdict(int)
    calls: defaultdict[tuple[PartKind, str], int] = defaultdict(int)
    for one in known:
        for part in one.parts:
            totals[(part.kind, part.name)] += part.total_ns
            calls[(part.kind, part.name)] += part.calls
    found = {key: (totals[key] / making, calls[key] / len(known)) for key in totals}
    return found, sum(one.in_collate_ns for one in known) / making


def _slowed(own: npt.NDArray[np.float64], whole: Produced) -> float:
    """What timing its parts surely adds to a batch, beyond what is known of it, in ns.

    Args:
        own: (d,) what the batches took whose parts were timed.
        whole: the others.
    """
    others = (whole.end_ns - whole.start_ns).astype(np.float64)
    error = float(others.std()) * math.sqrt(1 / own.size + 1 / others.size)
    return max(0.0, float(own.mean() - others.mean()) - SURELY * error)


def _places(table: Produced) -> tuple[np.ndarray, ...]:
    return table.loader, table.epoch, table.batch
