"""The verdict that measured shares give by the table in the README: independent of profkit."""

from collections.abc import Mapping
from dataclasses import dataclass

MARGIN = 0.02
"""A share nearer than this to a limit may count on either side of it."""
_LIMITS = (
    ("input-bound", ("dataloader",), 0.05),
    ("transfer-bound", ("transfer",), 0.10),
    ("optimizer-bound", ("optimizer",), 0.30),
    ("other-bound", ("other",), 0.20),
    ("compute-bound", ("forward", "backward"), 0.50),
)
_HIGH_INPUT_SHARE = 0.20
_CONTENDED_SHRINK = 0.20


@dataclass(frozen=True, slots=True)
class Expected:
    """What may be said of a loop.

    Attributes:
        first: kinds of which one must come first.
        surely: kinds that must be among what is said.
        perhaps: kinds that may be as well, for a share lies within the margin of a limit.
        high_input: whether data wait is severe; None where it may be either.
    """

    first: frozenset[str]
    surely: frozenset[str]
    perhaps: frozenset[str]
    high_input: bool | None

    @property
    def is_near_limit(self) -> bool:
        """Whether more than one answer counts."""
        return bool(self.perhaps) or len(self.first) > 1 or self.high_input is None


def expect(shares: Mapping[str, float], shrink: float | None = None) -> Expected:
    """The verdicts of a loop on a CPU.

    Args:
        shares: part of the step, by stage.
        shrink: part of forward to optimizer that vanishes without the workers' load, where
            workers and threads are more than the cores; None where that is not so, or not known.
    """
    stakes: dict[str, float] = {}
    surely, perhaps = set(), set()
    for kind, stages, limit in _LIMITS:
        stakes[kind] = sum(shares[stage] for stage in stages)
        above = stakes[kind] - limit
        if kind == "optimizer-bound":  # it must be the largest stage, too
            rivals = [share for stage, share in shares.items() if stage != "optimizer"]
            above = min(above, shares["optimizer"] - max(rivals))
        if above >= -MARGIN:
            (surely if above > MARGIN else perhaps).add(kind)
    if shrink is not None and shrink >= _CONTENDED_SHRINK - MARGIN:
        stakes["contended"] = 2.0  # before anything else, for it puts the other shares in doubt
        (surely if shrink > _CONTENDED_SHRINK + MARGIN else perhaps).add("contended")
        perhaps |= surely & {"compute-bound"}
        surely -= {"compute-bound"}
    least = max((stakes[kind] for kind in surely), default=0.0)
    first = {kind for kind in surely | perhaps if stakes[kind] >= least - MARGIN}
    if not surely:
        first.add("balanced")
    far = abs(shares["dataloader"] - _HIGH_INPUT_SHARE) > MARGIN
    high = shares["dataloader"] > _HIGH_INPUT_SHARE if far else None
    return Expected(frozenset(first), frozenset(surely), frozenset(perhaps), high)


def agrees(expected: Expected, kinds: list[str], severity: str) -> bool:
    """Whether what was said is what may be said.

    Args:
        expected: by the measured truth.
        kinds: all that were said, the first one first.
        severity: of the first one.
    """
    if kinds[0] not in expected.first:
        return False
    if kinds[0] == "input-bound" and expected.high_input not in (None, severity == "high"):
        return False
    said = set(kinds) - {"balanced"}
    return expected.surely <= said <= expected.surely | expected.perhaps
