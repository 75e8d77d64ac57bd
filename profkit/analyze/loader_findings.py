"""A run's loader, analyzed: costs, waits, queue and start-up of the one that fed the training."""

from collections import Counter

from ..schema.loader import LoaderRecord, select
from ..schema.loader_findings import LoaderFindings
from .loader_costs import of_loader, producer_cost
from .loader_waits import queue_depth, split_waits, start_up

LOST_SHARE = 0.02
"""Of the batches that were asked for: more that nobody told of are said to be missing."""


def examine_loader(record: LoaderRecord, number: int | None) -> LoaderFindings | None:
    """What is known of one loader.

    Args:
        record: of all loaders of a run.
        number: of the one that fed the training; the one that was asked most often where that is
            not known.

    Returns:
        None where nothing is known of it.
    """
    if number is None:
        asked = Counter(record.consumed.loader.tolist())
        if not asked:
            return None
        number = asked.most_common(1)[0][0]
    iterators = tuple(one for one in record.iterators if one.loader == number)
    if not iterators:
        return None
    produced, details = of_loader(record, number)
    consumed = select(record.consumed, record.consumed.loader == number)
    births = tuple(one for one in record.births if one.loader == number)
    last = iterators[-1]
    capacity = last.workers * last.prefetch
    gaps = list(record.gaps)
    missing = len(consumed) - len(produced)
    if missing > LOST_SHARE * len(consumed):
        gaps.append(
            f"{missing} of {len(consumed)} batches were not told of by whoever made them: their "
            "costs are missing"
        )
    counted = max(1, len(consumed))
    return LoaderFindings(
        workers=last.workers,
        prefetch=last.prefetch,
        method=last.method,
        producer=producer_cost(produced, details),
        wait=split_waits(produced, consumed, last.workers),
        depth=queue_depth(produced, consumed, capacity) if last.workers else None,
        start_up=start_up(iterators, births, consumed),
        receive_ns=float(consumed.receive_ns.sum()) / counted,
        pin_ns=float(consumed.pin_ns.sum()) / counted if last.pins else None,
        gaps=tuple(gaps),
    )
