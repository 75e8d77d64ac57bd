"""Whether a program trains the same under a fix: its first batches and losses beside the base's."""

from dataclasses import dataclass

from ..schema.fix import Fix, FixFacts, Same


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
        return Likeness(None, "no loss was seen: backward was never called on one")
    count = min(len(one.losses), len(other.losses))
    if one.batches[:count] != other.batches[:count] or one.losses[:count] != other.losses[:count]:
        return Likeness(
            None,
            "the program's batches or losses differ from run to run: seed it (torch.manual_seed) "
            "so that results can be held together",
        )
    return Likeness(True)


def compare_fixed(base: FixFacts, fixed: FixFacts, fixes: tuple[Fix, ...]) -> Likeness:
    """Whether what must stay equal under fixes did.

    Args:
        base: of the program as it is.
        fixed: with the fixes.
        fixes: what they are.
    """
    count = min(len(base.losses), len(fixed.losses))
    if not count:
        return Likeness(None, "no loss was seen: backward was never called on one")
    batches = min(len(base.batches), len(fixed.batches))
    if base.batches[:batches] != fixed.batches[:batches]:
        return Likeness(False, "its batches differ from those of the program as it is")
    pairs = list(zip(base.losses[:count], fixed.losses[:count], strict=True))
    was = [loss for loss, _ in pairs if loss is not None]
    now = [loss for _, loss in pairs if loss is not None]
    if len(was) < count or len(now) < count:
        return Likeness(None, "a loss is no finite number")
    loose = [fix for fix in fixes if fix.same is not Same.BITS]
    if not loose:
        if was == now:
            return Likeness(True)
        return Likeness(False, "its losses differ from those of the program as it is")
    tolerance, drift = max(fix.tolerance for fix in loose), max(fix.drift for fix in loose)
    mean_was, mean_now = sum(was) / count, sum(now) / count
    for what, apart, limit in (
        ("its first loss differs", _apart(was[0], now[0]), tolerance),
        (f"the mean of its first {count} losses differs", _apart(mean_was, mean_now), drift),
    ):
        if apart > limit:
            return Likeness(
                False,
                f"{what} by {100 * apart:.2g} % from the program as it is; {100 * limit:.2g} % "
                "would do",
            )
    return Likeness(True)


def _apart(was: float, now: float) -> float:
    """Relative difference."""
    return abs(now - was) / max(abs(was), 1e-12)
