"""What each trial is worth beside the others: which leads, and what adds nothing to its parts."""

import math
from collections.abc import Sequence
from dataclasses import replace

from ..schema.fix import Fix
from ..schema.tuning import Gain, Trial


def key_of(fixes: Sequence[Fix]) -> frozenset[str]:
    """The same for the same fixes, in whichever order."""
    return frozenset(fix.name for fix in fixes)


def adds(trial: Trial, part: Trial) -> bool:
    """Whether fixes together are clearly faster than some of them.

    Like is held against like: what was measured before the best was chosen, beside the same
    processes, or after that.
    """
    if not trial.is_proven or trial.speedup is None or part.speedup is None:
        return False
    if trial.first is not None and part.first is not None:
        return (trial.speedup.low or 0.0) > part.speedup.value
    whole, less = trial.first or trial.speedup, part.first or part.speedup
    return (whole.low or 0.0) > less.value


def with_adds(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Trials of several fixes held against the best of their parts that is proven."""
    found = []
    for trial in trials:
        part = _best_part(trial, trials)
        known = None if part is None or trial.speedup is None else adds(trial, part)
        found.append(replace(trial, adds=known))
    return tuple(found)


def ranked(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Best first: proven, then measured, then the others; what adds nothing after what has all.

    Of those that are proven, what was measured once more goes first: the others may be lucky.
    """

    def rank(trial: Trial) -> tuple[int, bool, float, int]:
        if trial.speedup is None:
            return 3, False, 0.0, 0
        part = _best_part(trial, trials) if trial.adds is False else None
        value = trial.speedup.value
        if part is not None and part.speedup is not None:
            value = min(value, part.speedup.value)
        once = trial.first is None and (part is None or part.first is None)
        return (0 if trial.is_proven else 1), once, -value, len(trial.fixes)

    return tuple(sorted(trials, key=rank))


def leader(trials: Sequence[Trial]) -> Trial | None:
    """The fastest that is proven, and holds nothing that adds nothing."""
    return next(iter(_useful(trials)), None)


def challenger(trials: Sequence[Trial]) -> Trial | None:
    """The fastest of those that were measured once, and look better than the leader."""
    useful = _useful(trials)
    known = max((_value(one) for one in useful if one.first is not None), default=0.0)
    return next((one for one in useful if one.first is None and _value(one) > known), None)


def _useful(trials: Sequence[Trial]) -> list[Trial]:
    rows = ranked(with_adds(trials))
    return [one for one in rows if one.is_proven and one.adds is not False]


def _value(trial: Trial) -> float:
    return 0.0 if trial.speedup is None else trial.speedup.value


def is_doubted(best: Trial, more: Trial) -> bool:
    """Whether a trial of the same fixes and one more makes one doubt what they gave alone."""
    if best.speedup is None or more.speedup is None:
        return False
    return (more.speedup.high or math.inf) < (best.speedup.low or 0.0)


def again(before: Trial, now: Trial) -> Trial:
    """A trial that was doubted, and measured once more: the second time counts.

    Args:
        before, now: with their speedups.
    """
    note = _twice(before, now)
    if now.is_proven:
        return replace(now, notes=(*now.notes, note))
    why = f"{note}: something else on the machine must have changed"
    return replace(now, reason="; ".join(filter(None, (why, now.reason))))


def confirmed(before: Trial, now: Trial) -> Trial:
    """The trial that led, measured once more: the second time counts, it was not chosen for it.

    What was proven need not be at the error rate of one trial of many again; its interval must
    hold no loss.

    Args:
        before, now: with their speedups.
    """
    assert now.speedup is not None
    found = replace(now, first=before.speedup)
    if now.same is True and (now.speedup.low or 0.0) > 1:
        return replace(found, gain=Gain.FASTER)
    return replace(found, reason="; ".join(filter(None, (_twice(before, now), now.reason))))


def _twice(before: Trial, now: Trial) -> str:
    return f"it was measured twice: {_value(before):.3g}×, then {_value(now):.3g}×"


def _best_part(trial: Trial, trials: Sequence[Trial]) -> Trial | None:
    """The fastest that is proven of those with some of a trial's fixes."""
    key = key_of(trial.fixes)
    parts = [one for one in trials if one.is_proven and key_of(one.fixes) < key]
    return max(parts, key=_value, default=None)
