"""What `profkit trace` is asked to do."""

from dataclasses import dataclass
from pathlib import Path

DATALOADER = "dataloader"
MEMORY = "memory"
PROBES = ("torch", "stacks", "lines")


@dataclass(frozen=True, slots=True)
class TraceOrder:
    """A trace of a built-in workload.

    Attributes:
        stage: stage to drill down into, or `step` for all.
        workload: name in `workloads.models.WORKLOADS`.
        sources: `dataloader`, `memory` or both, in the order of the report.
        steps: active steps a source.
        batch_size: None for the workload's own.
        num_workers: of the DataLoader.
        data_dir: where MNIST lies; None for the usual places.
        device: `auto`, `cpu` or `cuda`.
        threads: intra-op threads; None leaves torch's own.
        seed: of weights, batch order and block order.
        probes: those of `torch`, `stacks`, `lines` that drill down.
        allow_download: whether a missing MNIST may be fetched.
    """

    stage: str = "step"
    workload: str = "fastmlp"
    sources: tuple[str, ...] = (DATALOADER, MEMORY)
    steps: int = 120
    batch_size: int | None = None
    num_workers: int = 0
    data_dir: Path | None = None
    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    probes: tuple[str, ...] = PROBES
    allow_download: bool = True
