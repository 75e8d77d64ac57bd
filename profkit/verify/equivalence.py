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
    tolerance = max((fix.tolerance for fix in fixes if fix.same is not Same.BITS), default=0.0)
    worst = 0.0
    for was, now in zip(base.losses[:count], fixed.losses[:count], strict=True):
        if was is None or now is None:
            return Likeness(None, "a loss is no finite number")
        worst = max(worst, abs(now - was) / max(abs(was), 1e-12))
    if worst > tolerance:
        return Likeness(
            False,
            f"its losses differ by up to {100 * worst:.2g} % from those of the program as it is; "
            f"{100 * tolerance:.2g} % would do",
        )
    return Likeness(True)
