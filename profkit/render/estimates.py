"""Estimates for programs, and for columns whose heading says what an interval is."""

from ..schema.estimate import Estimate
from .units import times


def interval(estimate: Estimate | None) -> list[float] | None:
    """Its ends; None where it has none."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return None
    return [estimate.low, estimate.high]


def plain_times(speedup: Estimate) -> str:
    """A speedup and its interval, e.g. `9.1× (8.2 to 10.3)`."""
    return times(speedup).replace("95 % interval ", "")
