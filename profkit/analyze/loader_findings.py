"""A run's loader, analyzed: costs, waits, queue and start-up of the one that fed the training."""

from ..schema.loader import UNKNOWN, LoaderRecord
from ..schema.loader_findings import LoaderFindings
from .loader_costs import producer_cost
from .loader_waits import queue_depth, split_waits, start_up

LOST_SHARE = 0.02
"""Of the batches that were asked for: more that nobody told of are said to be missing."""


def examine_loader(record: LoaderRecord) -> LoaderFindings:
    """What is known of one loader.

    Args:
        record: see `training_loader`.
    """
    produced, consumed = record.produced, record.consumed
    last = record.iterators[-1]
    capacity = last.workers * last.prefetch
    gaps = list(record.gaps)
    missing = _untold(record)
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
        producer=producer_cost(produced, record.details),
        wait=split_waits(produced, consumed, last.workers),
        depth=queue_depth(produced, consumed, capacity) if last.workers else None,
        start_up=start_up(record.iterators, record.births, consumed),
        receive_ns=float(consumed.receive_ns.sum()) / counted,
        pin_ns=float(consumed.pin_ns.sum()) / counted if last.pins else None,
        gaps=tuple(gaps),
    )


def _untold(record: LoaderRecord) -> int:
    """Batches that were handed out, and of whose making nothing is known."""
    produced, consumed = record.produced, record.consumed
    if (consumed.batch == UNKNOWN).any():  # they come as they are ready
        return max(0, len(consumed) - len(produced))
    made = set(zip(produced.epoch.tolist(), produced.batch.tolist(), strict=True))
    got = zip(consumed.epoch.tolist(), consumed.batch.tolist(), strict=True)
    return sum(one not in made for one in got)
