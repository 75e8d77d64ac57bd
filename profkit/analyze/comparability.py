"""In what runs differ beside their times, and whether their times can be compared at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ..schema.comparison import Difference, Fact
from ..schema.record import RunRecord
from ..schema.run import Environment, RunManifest
from .breakdown import active_rows

_Source = TypeVar("_Source")

BATCH_SIZE = "batch size"
_ABOUT_EQUAL = 0.05
"""Relative difference up to which two memories, or two frequencies, are the same: a kernel keeps a
little for itself, and a clock rate is read while it changes."""
_SAMPLES_SHARE = 0.01
"""Relative difference of the mean samples a step from which it is told: as large as what two
processes of identical code differ by (FACTS §10)."""


@dataclass(frozen=True, slots=True)
class _Fact(Generic[_Source]):
    """One thing that may differ: what it is called, and where it stands.

    `matters` says whether times with different values cannot be compared; `counts_if_missing`
    whether it is told where only some of the runs recorded it.
    """

    what: str
    read: Callable[[_Source], Fact]
    matters: bool = False
    unit: str | None = None
    tolerance: float = 0.0
    counts_if_missing: bool = True


_OF_ENVIRONMENTS: tuple[_Fact[Environment], ...] = (
    _Fact("processor", lambda one: one.hardware.processor, matters=True),
    _Fact("physical cores", lambda one: one.hardware.physical_cores, matters=True),
    _Fact("logical cores", lambda one: one.hardware.logical_cores, matters=True),
    _Fact("usable cores", lambda one: one.hardware.usable_cores, matters=True),
    _Fact(
        "memory",
        lambda one: one.hardware.memory_bytes,
        matters=True,
        unit="bytes",
        tolerance=_ABOUT_EQUAL,
    ),
    _Fact("intra-op threads", lambda one: one.intra_op_threads),
    _Fact("inter-op threads", lambda one: one.inter_op_threads),
    _Fact("system", lambda one: one.hardware.system),
    _Fact(
        "frequency",
        lambda one: one.hardware.frequency_mhz,
        unit="MHz",
        tolerance=_ABOUT_EQUAL,
        counts_if_missing=False,
    ),
)
"""What a time depends on beside the program; versions and GPUs are told as well."""

_OF_RUNS: tuple[_Fact[RunManifest], ...] = (
    _Fact("kind of device", lambda run: _device_kind(run), matters=True),
    _Fact("data", lambda run: None if run.data is None else run.data.name, matters=True),
    _Fact(
        "training samples",
        lambda run: None if run.data is None else run.data.train_samples,
        matters=True,
        counts_if_missing=False,
    ),
    _Fact(
        "origin of the data",
        lambda run: None if run.data is None else run.data.origin,
        counts_if_missing=False,
    ),
    _Fact("workload", lambda run: run.workload),
    _Fact("loader", lambda run: None if run.loader is None else run.loader.source),
    _Fact("loader workers", lambda run: None if run.loader is None else run.loader.num_workers),
    _Fact(
        "prefetch factor",
        lambda run: None if run.loader is None else run.loader.prefetch_factor,
        counts_if_missing=False,
    ),
    _Fact("commit", lambda run: run.environment.commit),
)


def environment_differences(environments: Sequence[Environment]) -> list[Difference]:
    """In what hardware, settings and versions differ; what makes times incomparable first.

    Args:
        environments: two or more, of processes that may have used the GPUs there.
    """
    found = [_difference(fact, environments) for fact in _OF_ENVIRONMENTS]
    found.append(_gpus(environments, [None] * len(environments)))
    found += _versions(environments)
    differences = [one for one in found if one is not None]
    return sorted(differences, key=lambda one: not one.is_decisive)


def find_differences(runs: Sequence[RunRecord]) -> tuple[Difference, ...]:
    """Everything but the times in which runs differ, what makes the times incomparable first.

    Those are other hardware, another kind of device, other data and another batch size. What
    only some runs recorded cannot be compared, so it is told but decides nothing. Versions,
    threads and workers decide nothing: they may be the change under test.

    Args:
        runs: two or more.
    """
    manifests = [run.manifest for run in runs]
    environments = [one.environment for one in manifests]
    found = [_difference(fact, environments) for fact in _OF_ENVIRONMENTS]
    found += [_difference(fact, manifests) for fact in _OF_RUNS]
    found.append(_gpus(environments, [_device_kind(one) for one in manifests]))
    found.append(_batch_size(runs))
    found.append(_loader_batch_size(manifests))
    found.append(_samples_a_step(runs))
    found.append(_machine(manifests))
    found += _versions(environments)
    differences = [one for one in found if one is not None]
    whats = {one.what for one in differences if one.is_decisive}
    return tuple(
        one
        for one in sorted(differences, key=lambda one: not one.is_decisive)
        if not (one.what == _LOADER_BATCH and BATCH_SIZE in whats)  # it says the same
    )


_LOADER_BATCH = "batch size of the loader"


def mean_samples(run: RunRecord) -> float | None:
    """Samples in the mean active step; None where they are not known of all of them."""
    samples = run.steps.samples[active_rows(run.steps, drained=True)]
    if samples.size == 0 or (samples < 0).any() or not samples.any():
        return None
    return float(samples.mean())


def _difference(fact: _Fact[_Source], sources: Sequence[_Source]) -> Difference | None:
    values = tuple(fact.read(one) for one in sources)
    if not fact.counts_if_missing and None in values:
        return None
    return _told(fact.what, values, fact.matters, fact.unit, fact.tolerance)


def _told(
    what: str,
    values: tuple[Fact, ...],
    matters: bool = False,
    unit: str | None = None,
    tolerance: float = 0.0,
) -> Difference | None:
    """The difference, if there is one; decisive only between values that are known."""
    known = [value for value in values if value is not None]
    differs = any(not _are_equal(known[0], value, tolerance) for value in known[1:])
    if not differs and len(known) in (0, len(values)):
        return None
    return Difference(what, values, matters and differs, unit)


def _are_equal(one: Fact, other: Fact, tolerance: float) -> bool:
    if tolerance and isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(one - other) <= tolerance * max(abs(one), abs(other))
    return one == other


def _device_kind(run: RunManifest) -> str | None:
    return None if run.device is None else run.device.partition(":")[0]


def _gpus(environments: Sequence[Environment], kinds: Sequence[str | None]) -> Difference | None:
    """GPUs matter to runs that use them; one that runs elsewhere may not even have asked.

    Args:
        environments: a run each.
        kinds: of device that each ran on; None where that is not known.
    """
    values: list[Fact] = []
    for environment, kind in zip(environments, kinds, strict=True):
        gpus = ", ".join(environment.hardware.gpus)
        values.append(gpus or ("none" if kind in ("cpu", None) else None))
    return _told("GPUs", tuple(values), matters=any(kind != "cpu" for kind in kinds))


def _versions(environments: Sequence[Environment]) -> list[Difference | None]:
    packages = dict.fromkeys(name for one in environments for name in one.versions)
    return [
        _told(f"version of {name}", tuple(one.versions.get(name) for one in environments))
        for name in packages
    ]


def _batch_size(runs: Sequence[RunRecord]) -> Difference | None:
    """The samples of a usual step; where they are not known, what the loader said.

    Two runs differ where the middle halves of their steps' samples have nothing in common: a
    run whose batches vary is not told apart from one that varies alike.
    """
    spans = [_middle_half(run) for run in runs]
    stated = [
        None if run.manifest.loader is None else run.manifest.loader.batch_size for run in runs
    ]
    known = [span for span in spans if span is not None]
    if len(known) < len(runs):
        if None in stated:  # then nothing can be said, or only by mixing two kinds of number
            return None
        return _told(BATCH_SIZE, tuple(stated), matters=True)
    first = known[0]
    apart = any(span[2] < first[0] or first[2] < span[0] for span in known[1:])
    varies = any(span[0] != span[2] for span in known)
    if not apart and varies and None not in stated and len(set(stated)) > 1:
        return _told(BATCH_SIZE, tuple(stated), matters=True)
    if not apart:
        return None
    values = [int(span[1]) if span[1] == int(span[1]) else span[1] for span in known]
    return Difference(BATCH_SIZE, tuple(values), True)


def _middle_half(run: RunRecord) -> tuple[float, float, float] | None:
    if mean_samples(run) is None:
        return None
    samples = run.steps.samples[active_rows(run.steps, drained=True)]
    low, middle, high = np.quantile(samples, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def _loader_batch_size(manifests: Sequence[RunManifest]) -> Difference | None:
    """Several batches may make a step, so this alone does not decide."""
    stated = tuple(None if run.loader is None else run.loader.batch_size for run in manifests)
    return None if None in stated else _told(_LOADER_BATCH, stated)


def _samples_a_step(runs: Sequence[RunRecord]) -> Difference | None:
    """Where the usual batch is the same, but e.g. only one run drops the last one."""
    if _batch_size(runs) is not None:
        return None
    means = tuple(mean_samples(run) for run in runs)
    return None if None in means else _told("mean samples a step", means, tolerance=_SAMPLES_SHARE)


def _machine(manifests: Sequence[RunManifest]) -> Difference | None:
    """Two machines of one kind are told apart by a digest; shown as A, B, ..."""
    digests = [None if run.process is None else run.process.machine for run in manifests]
    names = {digest: chr(ord("A") + n) for n, digest in enumerate(dict.fromkeys(digests))}
    if None in names or len(names) < 2 or len(names) > 26:
        return None
    return Difference("machine", tuple(names[digest] for digest in digests), False)
