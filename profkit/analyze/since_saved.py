"""Measurements beside saved ones of another test run: ratios, and what else has changed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.estimate import Estimate
from ..schema.ledger import Ledger, Measured
from ..schema.run import Environment
from .statistics import ratio_of_means

_ABOUT_EQUAL = 0.05
"""Relative difference up to which two memories are the same: a kernel keeps a little for itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """One time of a measurement beside the saved one.

    Attributes:
        test, name: of the measurement.
        what: `step`, or a stage.
        new_ns, base_ns: mean in a step now and then; None where it was not observed.
        ratio: new over base; None where one of them is missing or too few blocks tell.
    """

    test: str
    name: str
    what: str
    new_ns: float | None
    base_ns: float | None
    ratio: Estimate | None


def changes_since(now: Sequence[Measured], saved: Ledger) -> tuple[list[Change], list[str]]:
    """Each measurement, whole step and stages, beside the saved one of the same test and name.

    Returns:
        The changes; and the measurements that were not saved, by test and name.
    """
    known = {(one.test, one.name): one for one in saved.measured}
    found: list[Change] = []
    unknown: list[str] = []
    for one in now:
        base = known.get((one.test, one.name))
        if base is None:
            unknown.append(f"{one.test} {one.name}".strip())
            continue
        found.append(_change(one, "step", one.blocks.step_ns, base.blocks.step_ns))
        for stage, taken in one.blocks.stages_ns.items():
            before = base.blocks.stages_ns.get(stage)
            if taken is not None or before is not None:
                found.append(_change(one, stage, taken, before))
    return found, unknown


def _change(
    one: Measured, what: str, new: Sequence[float] | None, base: Sequence[float] | None
) -> Change:
    ratio = None
    if new and base:
        ratio = ratio_of_means(np.array(new, np.float64), np.array(base, np.float64))
    return Change(
        test=one.test,
        name=one.name,
        what=what,
        new_ns=float(np.mean(new)) if new else None,
        base_ns=float(np.mean(base)) if base else None,
        ratio=None if ratio is None else ratio.estimate,
    )


def environment_changes(now: Environment, before: Environment) -> list[str]:
    """In what hardware, settings and versions differ, each in a sentence."""
    found = []
    here, there = now.hardware, before.hardware
    for what, new, old in (
        ("processor", here.processor, there.processor),
        ("cores", here.usable_cores, there.usable_cores),
        ("GPUs", ", ".join(here.gpus) or "none", ", ".join(there.gpus) or "none"),
        ("system", here.system, there.system),
        ("intra-op threads", now.intra_op_threads, before.intra_op_threads),
    ):
        if new != old:
            found.append(f"{what}: {_told(new)}, was {_told(old)}")
    more, less = here.memory_bytes, there.memory_bytes
    if more and less and abs(more / less - 1) > _ABOUT_EQUAL:
        found.append(f"memory: {more} bytes, was {less}")
    for name in dict.fromkeys([*now.versions, *before.versions]):
        new, old = now.versions.get(name), before.versions.get(name)
        if new != old:
            found.append(f"version of {name}: {_told(new)}, was {_told(old)}")
    return found


def _told(value: object) -> str:
    return "not known" if value is None else str(value)
