"""Measurements beside saved ones of another test run: ratios, and what else has changed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.comparison import Fact
from ..schema.estimate import Estimate
from ..schema.ledger import Ledger, Measured
from ..schema.run import Environment
from .comparability import environment_differences
from .statistics import ratio_of_means


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
    return [
        f"{one.what}: {_told(one.values[0], one.unit)}, was {_told(one.values[1], one.unit)}"
        for one in environment_differences((now, before))
    ]


def _told(value: Fact, unit: str | None) -> str:
    if value is None:
        return "not known"
    return str(value) if unit is None else f"{value} {unit}"
