"""How many operations a second a training does, and how many the machine does at most."""

import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch

from profkit.store.run_directory import write_file
from profkit.workloads.mnist_files import TRAIN_SAMPLES

from .findings import RungFindings
from .forecast import Work, work_of
from .train import wait_for

SIDES = {"cpu": 2048, "cuda": 8192}
"""Of the matrices whose product is timed: larger ones are no faster, by trying."""
PRODUCTS = 20
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class Peak:
    """The fastest that this machine was seen to compute.

    Attributes:
        device: `cpu` or `cuda`.
        side: of the matrices that were multiplied.
        count: products, by precision.
        rates: floating-point operations per second by precision, median of them.
    """

    device: str
    side: int
    count: int
    rates: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Rate:
    """What a training computes, and how fast.

    Attributes:
        work: for one image.
        achieved: operations per second of forward and backward; None where neither was observed.
    """

    work: Work
    achieved: float | None


def measure_peak(device: torch.device) -> Peak:
    """Multiply large matrices on the device."""
    side = SIDES[device.type]
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        one = torch.ones(side, side, dtype=dtype, device=device)
        two = torch.ones_like(one)
        taken = []
        for _ in range(WARM_UP + PRODUCTS):
            wait_for(device)
            began = time.perf_counter()
            torch.mm(one, two)
            wait_for(device)
            taken.append(time.perf_counter() - began)
        found[name] = 2 * side**3 / float(np.median(taken[WARM_UP:]))
    return Peak(device.type, side, PRODUCTS, found)


def peak_beside(runs: Iterable[Path], device: torch.device, kept: Path) -> Peak:
    """The machine's peak as epochs were recorded: measured right after them, and kept with them.

    Args:
        runs: run directories of these epochs.
        device: that they ran on.
        kept: where the peak is kept.

    Raises:
        MsgspecError: what is kept there is no peak.
    """
    names = " ".join(sorted(run.name for run in runs))
    path = kept / f"peak-{hashlib.sha256(names.encode()).hexdigest()[:8]}.json"
    if not path.exists():
        write_file(path, msgspec.json.encode(measure_peak(device)))
    return msgspec.json.decode(path.read_bytes(), type=Peak)


def rate_of(found: RungFindings, device: str) -> Rate:
    """What a rung's training computes, by the stages of its recorded epoch.

    On a GPU by a whole epoch: there the stages are the host's, which only asks for the work.
    """
    recipe = found.rung.recipe
    work = work_of(recipe.network, recipe.data.side)
    stages = found.stages_s
    seconds = found.epoch_s
    if device == "cpu":
        seconds = sum(stages.get(stage) or 0.0 for stage in ("forward", "backward"))
    if not seconds:
        return Rate(work, None)
    images = min(found.results[0].training.steps * recipe.data.batch_size, TRAIN_SAMPLES)
    return Rate(work, images * (work.forward + work.backward) / seconds)
