"""A loader in words and as a table: what a batch costs, and why the loop waited for it."""

from ..schema.loader_findings import LoaderFindings, PartCost
from .tables import Table
from .units import ABSENT, duration, milliseconds, one_line, percent, plural, significant

_PARTS_SHOWN = 5


def loader_sentences(found: LoaderFindings) -> tuple[str, ...]:
    """What is to be said of a loader, the most important first."""
    sentences = [_cost_sentence(found), _cpu_sentence(found), _wait_sentence(found)]
    sentences += [_depth_sentence(found), _start_sentence(found)]
    return tuple(one for one in sentences if one is not None)


def loader_table(found: LoaderFindings) -> Table | None:
    """The parts of what a batch costs; None where nobody told of it."""
    producer = found.producer
    if producer is None:
        return None
    rows = [
        (
            _label(part),
            milliseconds(part.batch_ns),
            percent(part.share),
            ABSENT if part.calls is None else significant(part.calls),
        )
        for part in producer.parts
    ]
    batch = producer.batch_ns
    rows.append(("batch", milliseconds(batch.value), "100 %", ABSENT))
    return Table(
        title=f"What one batch costs its producer, {_makers(found)}",
        head=("part", "ms", "share", "calls"),
        rows=tuple(rows),
        numbers=(False, True, True, True),
        note=f"{plural(producer.batches, 'batch', 'es')}; the parts were timed in "
        f"{producer.detailed} of them. This time is the producer's: it is no share of the step.",
    )


def _makers(found: LoaderFindings) -> str:
    if not found.workers:
        return "the loop itself"
    return f"each of {plural(found.workers, 'worker')} ({one_line(found.method or '', 20)})"


def _label(part: PartCost) -> str:
    return one_line(part.names[-1], 60)


def _cost_sentence(found: LoaderFindings) -> str | None:
    producer = found.producer
    if producer is None:
        return None
    shares: dict[str, float] = {}
    for part in producer.parts:
        name = part.names[0] if part.is_queue else _label(part)
        shares[name] = shares.get(name, 0.0) + part.share
    ranked = sorted(shares.items(), key=lambda one: -one[1])[:_PARTS_SHOWN]
    parts = ", ".join(f"{name} {percent(share)}" for name, share in ranked)
    cost = duration(producer.batch_ns.value)
    return f"one batch costs its producer {cost}: {parts}"


def _cpu_sentence(found: LoaderFindings) -> str | None:
    producer = found.producer
    if producer is None:
        return None
    text = f"of making it {percent(producer.cpu_share)} is computing"
    if producer.core_wait_share is None:
        rest = max(0.0, 1 - producer.cpu_share)
        return f"{text}, {percent(rest)} waiting for files, locks or a core"
    return (
        f"{text}, {percent(producer.core_wait_share)} waiting for a core, "
        f"{percent(producer.blocked_share)} for files or locks"
    )


def _wait_sentence(found: LoaderFindings) -> str | None:
    wait = found.wait
    if wait is None:
        return None
    if not found.workers:
        return f"the loop makes its batches itself: each takes it {duration(wait.wait_ns)}"
    return (
        f"the loop waits {duration(wait.wait_ns)} for a batch: {duration(wait.starvation_ns)} "
        f"since none is ready, {duration(wait.head_of_line_ns)} for a late one while a later one "
        f"is ready, {duration(wait.receive_ns)} to receive it"
    )


def _depth_sentence(found: LoaderFindings) -> str | None:
    depth = found.depth
    if depth is None:
        return None
    return (
        f"ready when the loop asks: {significant(depth.mean)} of {depth.capacity} batches on "
        f"average, none at {percent(depth.empty_share)} of the requests"
    )


def _start_sentence(found: LoaderFindings) -> str | None:
    start = found.start_up
    if start is None:
        return None
    ready = (
        "" if start.worker_ns is None else f", its workers ready after {duration(start.worker_ns)}"
    )
    return (
        f"an epoch's first batch is there {duration(start.first_batch_ns)} after its iterator was "
        f"begun{ready}: apart from the other waits"
    )
