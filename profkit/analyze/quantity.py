"""A measured value that carries its interval into arithmetic and comparisons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..schema.findings import Breakdown, Estimate, StageFinding
from ..schema.stage import STAGES, Stage
from ..schema.steps import StepTable
from .breakdown import break_down
from .statistics import widen_between_processes


@dataclass(frozen=True, slots=True, order=False)
class Quantity:
    """A value in a unit, with its 95 % interval.

    `a < b` is True only if the whole interval of `a` lies below that of `b`: both `a < b` and
    `a > b` are False while the data cannot tell. A number has no width. `<=` and `>=` let the ends
    of the intervals meet; they are not the opposites of `>` and `<`.

    Attributes:
        value: in `unit`.
        low, high: the interval; 0 and infinity where there were too few blocks to tell.
        unit: `ns`, `share` or `ratio`.
        blocks: how many blocks of steps it rests on.
        most: the largest value there can be: a share is compared with nothing above it.
    """

    value: float
    low: float
    high: float
    unit: str
    blocks: int
    most: float = math.inf

    def __mul__(self, factor: float) -> "Quantity":
        if not isinstance(factor, (int, float)):
            return NotImplemented
        if factor < 0:
            raise ValueError(f"a measured value times {factor}: use a factor of 0 or more")
        return Quantity(
            self.value * factor,
            self.low * factor,
            self.high * factor,
            self.unit,
            self.blocks,
            self.most * factor if factor else math.inf,
        )

    __rmul__ = __mul__

    def __truediv__(self, other: "Quantity | float") -> "Quantity":
        """Scaled by a number, or the ratio to another quantity of the same unit."""
        if isinstance(other, (int, float)):
            return self * (1 / other)
        if self.unit != other.unit:
            raise ValueError(f"{self.unit} over {other.unit}: divide values of one unit")
        return Quantity(
            self.value / other.value,
            self.low / other.high,
            self.high / other.low if other.low > 0 else math.inf,
            "ratio",
            min(self.blocks, other.blocks),
        )

    def __lt__(self, other: "Quantity | float") -> bool:
        __tracebackhide__ = True
        return self.high < self._bounds(other)[0]

    def __gt__(self, other: "Quantity | float") -> bool:
        __tracebackhide__ = True
        return self.low > self._bounds(other)[1]

    def __le__(self, other: "Quantity | float") -> bool:
        __tracebackhide__ = True
        return self.high <= self._bounds(other)[0]

    def __ge__(self, other: "Quantity | float") -> bool:
        __tracebackhide__ = True
        return self.low >= self._bounds(other)[1]

    def _bounds(self, other: "Quantity | float") -> tuple[float, float]:
        __tracebackhide__ = True
        if isinstance(other, Quantity):
            if other.unit != self.unit:
                raise ValueError(f"{self.unit} against {other.unit}: compare values of one unit")
            return other.low, other.high
        limit = float(other)
        if limit > self.most:  # percent, most likely, and `< 20` would hold whatever was measured
            raise ValueError(
                f"{self.unit} of at most {self.most:g} against {limit:g}: a share lies between 0 "
                "and 1, so write 20 % as 0.2"
            )
        return limit, limit

    def __repr__(self) -> str:
        """Unrounded enough to see why a comparison failed."""
        scale, unit = (1e-6, " ms") if self.unit == "ns" else (1.0, f" {self.unit}")
        text = f"{self.value * scale:.4g}{unit}"
        if math.isinf(self.high):
            return f"<{text}, no interval: only {self.blocks} blocks>"
        low, high = self.low * scale, self.high * scale
        return f"<{text}, 95 % {low:.4g} to {high:.4g}, {self.blocks} blocks>"


class Measurement:
    """What `profkit.measure` found: the stages of a short training loop.

    An assertion that the data cannot decide measures further; what it adds is part of the same
    measurement from then on.

    Args:
        name: what messages call it.
        table: the steps.
        loop: what can measure further; None for what cannot.
        gaps: what could not be seen of it, in words.
    """

    def __init__(
        self,
        name: str,
        table: StepTable,
        loop: object | None = None,
        gaps: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.table = table
        self.loop = loop
        self.gaps = tuple(gaps)
        self._breakdown: Breakdown | None = None

    def add(self, table: StepTable) -> None:
        """Count these steps as well."""
        self.table = StepTable.concatenate([self.table, table])
        self._breakdown = None

    @property
    def breakdown(self) -> Breakdown:
        """The stages of the steps that count."""
        if self._breakdown is None:
            self._breakdown = break_down(self.table, beyond=True)
        return self._breakdown

    @property
    def steps(self) -> int:
        """Active steps."""
        return 0 if self.breakdown.steps is None else self.breakdown.steps.count

    @property
    def step_time(self) -> Quantity:
        """Mean time of a step, in ns."""
        mean = self.breakdown.mean_step_ns
        assert mean is not None  # measure() raises when there is no step
        return _quantity(widen_between_processes(mean), "ns")

    def share(self, stage: str) -> Quantity:
        """Part of the step that a stage holds, 0 to 1.

        Raises:
            InputError: there is no such stage.
            LookupError: the stage was not observed: absent is not zero.
        """
        __tracebackhide__ = True
        return _quantity(self.finding(stage).share, "share", most=1.0)

    def cost(self, stage: str) -> Quantity:
        """Mean time that a stage takes in a step, in ns.

        Raises:
            InputError, LookupError: see `share`.
        """
        __tracebackhide__ = True
        share, step = self.share(stage), self.step_time
        return Quantity(
            share.value * step.value,
            share.low * step.low,
            share.high * step.high,
            "ns",
            share.blocks,
        )

    def finding(self, stage: str) -> StageFinding:
        """What was found of a stage.

        Raises:
            InputError, LookupError: see `share`.
        """
        __tracebackhide__ = True
        finding = self.breakdown.stages[stage_named(stage)]
        if finding is None:
            seen = ", ".join(s.value for s, found in self.breakdown.stages.items() if found)
            raise LookupError(
                f"stage {Stage(stage).value} was not observed in {self.name}; observed: {seen}"
                + "".join(f"; {gap}" for gap in self.gaps)
            )
        return finding

    def __repr__(self) -> str:
        if self.breakdown.mean_step_ns is None:
            return f"<profkit measurement {self.name}: no step>"
        return f"<profkit measurement {self.name}: {self.steps} steps, {self.step_time!r} each>"


def stage_named(name: str) -> Stage:
    """The stage of that name.

    Raises:
        InputError: there is none.
    """
    __tracebackhide__ = True
    try:
        return Stage(name)
    except ValueError:
        known = ", ".join(stage.value for stage in STAGES)
        raise InputError(f"unknown stage {name!r}: use one of {known}") from None


def _quantity(estimate: Estimate, unit: str, most: float = math.inf) -> Quantity:
    low = 0.0 if estimate.low is None else estimate.low
    high = math.inf if estimate.high is None else estimate.high
    return Quantity(estimate.value, low, high, unit, estimate.blocks, most)
