"""What it takes for data loading to hold half of a step that computing holds most of.

Predicted from a recorded epoch of a slow network, then proven by a recorded epoch of a fast one.
"""

from dataclasses import dataclass
from pathlib import Path

import profkit
from profkit import Change, Question

from .findings import Step, step_of
from .forecast import together

HALF = 0.5
_COMPUTING = ("forward", "backward")
_FASTER = (*_COMPUTING, "optimizer")


@dataclass(frozen=True, slots=True)
class Dominance:
    """A faster consumer of the same batches.

    Attributes:
        wait_share: of the step as it was recorded, 0 to 1.
        times: how many times faster forward and backward must be for data wait to hold half of
            the step; 1 where it does already, None where no speed of theirs would do.
        fast_share: what-if's data wait where forward, backward and optimizer are as fast as the
            fast network's, for each image; None where it cannot tell, or they are no slower.
    """

    wait_share: float
    times: float | None
    fast_share: float | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded epoch.

    Attributes:
        run: run directory.
        batch_size: images.
    """

    run: Path
    batch_size: int


def dominance_of(slow: Recorded, fast: Recorded) -> Dominance:
    """What it takes for data wait to hold half of a recorded step, and what a fast network makes.

    Args:
        slow: what loads in the step that computes.
        fast: the same loading before a faster network.
    """
    step, faster = step_of(slow.run), step_of(fast.run)
    shares = step.stage_shares
    wait = shares["dataloader"] or 0.0
    computing = sum(shares[stage] or 0.0 for stage in _COMPUTING)
    # What else is in the step stays; computing may take what data wait has beyond that.
    left = wait - (1 - wait - computing)
    times = 1.0 if wait >= HALF else computing / left if left > 0 else None
    asked = []
    for stage in _FASTER:
        old, new = _each_ms(step, stage, slow.batch_size), _each_ms(faster, stage, fast.batch_size)
        if not 0 < new < old:
            return Dominance(wait, times, None)
        asked.append(Question(Change.PART, stage, 1 - new / old))
    answers = profkit.what_if(slow.run, asked).answers
    speedup = together([one.speedup and one.speedup.value for one in answers])
    return Dominance(wait, times, None if speedup is None else min(1.0, wait * speedup))


def _each_ms(step: Step, stage: str, batch_size: int) -> float:
    """What a stage takes for an image."""
    return (step.stage_shares[stage] or 0.0) * step.mean_ms / batch_size
