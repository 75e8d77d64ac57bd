"""A value that knows how sure it is."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval and the number of blocks that it rests on.

    `low` and `high` are None where too few blocks were there to tell.
    """

    value: float
    low: float | None
    high: float | None
    blocks: int
