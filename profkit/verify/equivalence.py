"""Whether a program trains the same under a fix: its first batches and losses beside the base's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..schema.fix import Fix, FixFacts, Same

LEAST_LOSSES = 4
"""Fewer of them have no trend."""
SURE_TREND = 2.0
"""In its standard errors: a trend below may be the batches' chance."""
TREND_SHARE = 0.25
"""Of the trend, what may differ. Source: under bf16 the first eight losses of three networks on
MNIST fell up to 5 % faster or slower, the first twelve up to 10 %."""
_UNSEEN = "no loss was seen: backward was never called on one"
_ORDER = (False, None, True)


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a comparison showed.

    Attributes:
        same: None where it cannot be told.
        reason: why it is not the same, or not known; None where it is the same.
    """

    same: bool | None
    reason: str | None = None


def compare_bases(one: FixFacts, other: FixFacts) -> Likeness:
    """Whether two instances of the program as it is give the same batches and losses."""
    if not one.losses:
        return Likeness(None, _UNSEEN)
    if one.batches != other.batches or one.losses != other.losses:
        return Likeness(
            None,
            "the program's batches or losses differ from run to run: seed it (torch.manual_seed) "
            "so that results can be held together",
        )
    return Likeness(True)


def compare_all(base: FixFacts, fixed: Iterable[FixFacts], fixes: tuple[Fix, ...]) -> Likeness:
    """The worst of several instances with the same fixes; see `compare_fixed`."""
    found = [compare_fixed(base, one, fixes) for one in fixed]
    return min(found, key=lambda likeness: _ORDER.index(likeness.same))


def compare_fixed(base: FixFacts, fixed: FixFacts, fixes: tuple[Fix, ...]) -> Likeness:
    """Whether what must stay equal under fixes did.

    Args:
        base: of the program as it is.
        fixed: with the fixes.
        fixes: what they are.
    """
    if not base.losses:
        return Likeness(None, _UNSEEN)
    for what, seen, wanted in (
        ("batches", len(fixed.batches), len(base.batches)),
        ("losses", len(fixed.losses), len(base.losses)),
    ):
        if seen != wanted:
            return Likeness(
                False, f"{seen} {what} were seen of it, {wanted} of the program as it is"
            )
    if base.batches != fixed.batches:
        return Likeness(False, "its batches differ from those of the program as it is")
    was = [loss for loss in base.losses if loss is not None]
    now = [loss for loss in fixed.losses if loss is not None]
    if len(was) < len(base.losses) or len(now) < len(fixed.losses):
        return Likeness(None, "a loss is no finite number")
    loose = [fix for fix in fixes if fix.same is not Same.BITS]
    if not loose:
        if was == now:
            return Likeness(True)
        return Likeness(False, "its losses differ from those of the program as it is")
    tolerance, drift = max(fix.tolerance for fix in loose), max(fix.drift for fix in loose)
    for what, apart, limit in (
        ("its first loss differs", _apart(was[0], now[0]), tolerance),
        (
            f"the mean of its first {len(was)} losses differs",
            _apart(sum(was) / len(was), sum(now) / len(now)),
            drift,
        ),
    ):
        if apart > limit:
            return Likeness(
                False,
                f"{what} by {100 * apart:.2g} % from the program as it is; {100 * limit:.2g} % "
                "would do",
            )
    return _compare_trends(was, now, tolerance)


def _compare_trends(was: Sequence[float], now: Sequence[float], tolerance: float) -> Likeness:
    """Whether the loss changes as it does in the program as it is.

    That it stays close does not tell: in a few steps no loss goes far, and one that does not
    train at all stays close, too. The batches are the same, so that their chance is in both.
    """
    unknown = Likeness(
        None,
        f"the loss hardly moves in the first {len(was)} steps: whether it trains the same cannot "
        "be told",
    )
    if len(was) < LEAST_LOSSES:
        return unknown
    steps = np.arange(len(was))
    (slope, _), spread = np.polyfit(steps, was, 1, cov=True)
    moved = abs(slope) * (len(was) - 1)
    is_moving = moved > tolerance * max(map(abs, was))
    if not is_moving or abs(slope) < SURE_TREND * float(np.sqrt(spread[0, 0])):
        return unknown
    apart = _apart(slope, float(np.polyfit(steps, now, 1)[0]))
    if apart <= TREND_SHARE:
        return Likeness(True)
    return Likeness(
        False,
        f"the change of its first {len(was)} losses differs by {100 * apart:.0f} % from the "
        f"program as it is; {100 * TREND_SHARE:.0f} % would do",
    )


def _apart(was: float, now: float) -> float:
    """Relative difference."""
    return abs(now - was) / max(abs(was), 1e-12)
