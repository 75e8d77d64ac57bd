"""What the rules look at."""

from dataclasses import dataclass

from ..schema.findings import Breakdown, Contention
from ..schema.loader_findings import ProducerCost
from ..schema.run import RunManifest


@dataclass(frozen=True, slots=True)
class Situation:
    """One run as the rules see it.

    Attributes:
        contention: what it costs the loop that others want its cores, where that is known.
        device_idle_in_wait_share: part of the data wait in which the device had nothing to
            do; None where no device was observed.
        producer: what a batch costs its loader workers; None where that was not looked into.
    """

    manifest: RunManifest
    breakdown: Breakdown
    contention: Contention | None = None
    device_idle_in_wait_share: float | None = None
    producer: ProducerCost | None = None

    @property
    def on_device(self) -> bool:
        """Whether the model ran beside the host, so that a host wait may be hidden."""
        return (self.manifest.device or "cpu") != "cpu"
