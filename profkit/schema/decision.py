"""What a measured value is held against, and what that shows."""

from dataclasses import dataclass
from enum import Enum

from .estimate import Estimate


class Outcome(Enum):
    """Where a value lies beside its limit, as far as the data can tell."""

    BELOW = "below"
    ABOVE = "above"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Decision:
    """A value and its limit.

    Attributes:
        what: what the value is, such as `typical step` or `share of dataloader`.
        unit: `share` or `ratio`.
        estimate: the value, with its 95 % interval; the outcome may ask for more than that.
        limit: in the same unit.
        outcome: on which side of the limit the value lies.
    """

    what: str
    unit: str
    estimate: Estimate
    limit: float
    outcome: Outcome
