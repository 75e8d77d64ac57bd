"""What it would take for data loading to hold half of a step that computing holds most of."""

from dataclasses import dataclass
from pathlib import Path

import profkit
from profkit import Change, Question

from .findings import step_of
from .forecast import together

HALF = 0.5
_COMPUTING = ("forward", "backward")


@dataclass(frozen=True, slots=True)
class Dominance:
    """A faster consumer of the same batches.

    Attributes:
        wait_share: of the step as it was recorded, 0 to 1.
        times: how many times faster forward and backward must be for data wait to hold half of
            the step; 1 where it does already, None where no speed of theirs would do.
        speedup: of the step then, as what-if predicts it; None where there is nothing to predict.
    """

    wait_share: float
    times: float | None
    speedup: float | None


def dominance_of(run: Path) -> Dominance:
    """What it takes for data wait to hold half of a recorded step.

    Args:
        run: run directory; its batches came from a loader.
    """
    shares = step_of(run).stage_shares
    wait = shares["dataloader"] or 0.0
    if wait >= HALF:
        return Dominance(wait, 1.0, 1.0)
    computing = sum(shares[stage] or 0.0 for stage in _COMPUTING)
    # What else is in the step stays; computing may take what data wait has beyond that.
    left = wait - (1 - wait - computing)
    if left <= 0:
        return Dominance(wait, None, None)
    gone = 1 - left / computing
    asked = [Question(Change.PART, stage, gone) for stage in _COMPUTING]
    answers = profkit.what_if(run, asked).answers
    found = [None if one.speedup is None else one.speedup.value for one in answers]
    return Dominance(wait, computing / left, together(found))
