"""All that the doctor looks at: the probes, and what the built-in workloads need."""

import os
from pathlib import Path

from ..probe.capabilities import PROBE_CHECKS, Capability, Check, examine

DATA_VARIABLE = "PROFKIT_DATA"
IDX_FILES = tuple(
    f"{split}-{kind}-ubyte"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


def capabilities() -> tuple[Capability, ...]:
    """Every check of profkit, in the order in which a reader should act on them; never raises."""
    checks: dict[str, Check] = {}
    for name, check in PROBE_CHECKS.items():
        checks[name] = check
        if name == "torch":
            checks["torchvision"] = _torchvision
    checks["MNIST"] = _data
    return examine(checks)


def _torchvision() -> Capability:
    from .torchvision_repair import torchvision_state

    word, _, detail = torchvision_state().partition(": ")
    if word == "works":
        import torchvision

        return Capability("torchvision", "works", str(torchvision.__version__))
    if word == "repaired":
        return Capability("torchvision", "repaired", detail)
    return Capability("torchvision", "absent", word, detail or None)


def _data() -> Capability:
    """Whether real MNIST is at hand, without fetching or drawing anything."""
    given = os.environ.get(DATA_VARIABLE)
    if not given:
        advice = f"set {DATA_VARIABLE} to a directory with its IDX files to use those"
        return Capability("MNIST", "works", "from the cache, a download, or drawn digits", advice)
    present = {path.name.removesuffix(".gz") for path in Path(given).rglob("*-ubyte*")}
    missing = [name for name in IDX_FILES if name not in present]
    if not missing:
        return Capability("MNIST", "works", f"the files in {DATA_VARIABLE}")
    detail = f"{len(missing)} of {len(IDX_FILES)} files missing in {DATA_VARIABLE}"
    advice = f"put {', '.join(missing)} there (.gz or not), or unset {DATA_VARIABLE}"
    return Capability("MNIST", "absent", detail, advice)
