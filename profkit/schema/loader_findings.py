"""What the analysis found about a loader: costs of a batch, and why the loop waited for it."""

from dataclasses import dataclass

from .estimate import Estimate
from .loader import PartKind


@dataclass(frozen=True, slots=True)
class PartCost:
    """A part of what a batch costs its producer.

    Attributes:
        kind: of part.
        name: of the transform or decoder; None for the other kinds.
        batch_ns: mean for each batch.
        share: of the producer's cost.
        calls: in each batch; None for the other kinds.
    """

    kind: PartKind
    name: str | None
    batch_ns: float
    share: float
    calls: float | None = None

    @property
    def is_queue(self) -> bool:
        """Whether it lies between making the batch and its being on the way."""
        return self.kind in (PartKind.SERIALISE, PartKind.TRANSFER)

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called: the usual name first, the one for tables last."""
        if self.name is not None:
            return (self.name,)
        if self.kind is PartKind.FETCH:
            return (self.kind.value, "fetch (getitem)")
        return ("queue", self.kind.value) if self.is_queue else (self.kind.value,)


@dataclass(frozen=True, slots=True)
class ProducerCost:
    """What one batch costs whoever makes it: fetching to handing it over.

    Attributes:
        batches: that were made and are told of; the first of each worker is left out.
        detailed: of them, those whose parts were timed.
        batch_ns: mean.
        median_ns, p95_ns: of fetching and collating one.
        cpu_share: of the time of fetching and collating, what the thread computed.
        core_wait_share: what it was ready to run without a core; None where that is not known.
        samples: in a batch; None where not known.
        parts: the largest first; they sum to `batch_ns`.
    """

    batches: int
    detailed: int
    batch_ns: Estimate
    median_ns: float
    p95_ns: float
    cpu_share: float
    core_wait_share: float | None
    samples: float | None
    parts: tuple[PartCost, ...]

    @property
    def blocked_share(self) -> float:
        """What it neither computed nor waited for a core: files, networks, locks."""
        return max(0.0, 1 - self.cpu_share - (self.core_wait_share or 0.0))


@dataclass(frozen=True, slots=True)
class WaitSplit:
    """Why the loop waited for a batch; means for each batch, in ns.

    Attributes:
        batches: that were asked for.
        wait_ns: all of it: the next four.
        starvation_ns: no batch was ready.
        head_of_line_ns: a later batch was ready, the expected one was not.
        receive_ns: it was there: reading and unpacking it, or waiting until that was done.
        making_ns: the loop made it itself.
    """

    batches: int
    wait_ns: float
    starvation_ns: float
    head_of_line_ns: float
    receive_ns: float
    making_ns: float


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Batches that were ready when the loop asked for one.

    Attributes:
        mean: over all requests.
        empty_share: of the requests that found none.
        capacity: batches that workers make ahead.
        over_time: (s since the first request, mean depth) for each stretch of the run.
    """

    mean: float
    empty_share: float
    capacity: int
    over_time: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class StartUp:
    """What it takes until the first batch of an epoch is there; medians over epochs, in ns.

    Attributes:
        epochs: for which workers were started.
        iterator_ns: making the iterator, which starts the workers.
        worker_ns: until the last worker was ready for its first batch; None where not known.
        first_batch_ns: until the loop had the first batch.
    """

    epochs: int
    iterator_ns: float
    worker_ns: float | None
    first_batch_ns: float


@dataclass(frozen=True, slots=True)
class LoaderFindings:
    """One loader of a run: the one that fed the training.

    Attributes:
        workers, prefetch: as it was set.
        method: how workers are started; None without any.
        producer: None where no batch was told of.
        wait: None where no batch was asked for.
        depth: None without workers.
        start_up: likewise.
        receive_ns: mean for each batch, in whichever thread: reading and unpacking.
        pin_ns: mean for each batch; None where nothing is pinned.
        gaps: sentences.
    """

    workers: int
    prefetch: int
    method: str | None
    producer: ProducerCost | None
    wait: WaitSplit | None
    depth: QueueDepth | None
    start_up: StartUp | None
    receive_ns: float
    pin_ns: float | None
    gaps: tuple[str, ...] = ()
