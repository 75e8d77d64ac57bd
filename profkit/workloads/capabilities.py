"""All that the doctor looks at: the probes, and what the built-in workloads need."""

import os
import tempfile
from pathlib import Path

from ..errors import DataError
from ..probe.capabilities import PROBE_CHECKS, Capability, Check, examine


def capabilities() -> tuple[Capability, ...]:
    """Every check of profkit, in the order in which a reader should act on them; never raises."""
    checks: dict[str, Check] = {}
    for name, check in PROBE_CHECKS.items():
        checks[name] = check
        if name == "torch":
            checks["torchvision"] = _torchvision
    checks["cache directory"] = _cache
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


def _cache() -> Capability:
    from .mnist_files import CACHE_VARIABLE, cache_path

    directory = cache_path()
    existing = next(each for each in (directory, *directory.parents) if each.exists())
    if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        return Capability("cache directory", "works", "writable")
    advice = f"set {CACHE_VARIABLE} to a directory that you may write"
    return Capability("cache directory", "absent", "not writable", advice)


def _data() -> Capability:
    """Whether real MNIST is at hand; nothing is fetched, drawn or left behind."""
    from .mnist_files import DATA_VARIABLE, IDX_FILES, RAW, cache_path, locate

    given = os.environ.get(DATA_VARIABLE)
    if given:
        with tempfile.TemporaryDirectory(prefix="profkit-") as scratch:
            try:
                locate(Path(given), allow_download=False, cache_dir=Path(scratch))
            except DataError as error:
                what, _, advice = str(error).replace(given, DATA_VARIABLE).rpartition(": ")
                return Capability("MNIST", "absent", what, advice)
        return Capability("MNIST", "works", f"the files in {DATA_VARIABLE}")
    if all((cache_path() / RAW / file.name).is_file() for file in IDX_FILES):
        return Capability("MNIST", "works", "in the cache")
    advice = f"set {DATA_VARIABLE} to a directory with its IDX files, or let trace download them"
    return Capability("MNIST", "absent", "not here; digits are drawn if it stays so", advice)
