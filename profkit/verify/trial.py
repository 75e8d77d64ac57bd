"""When a fix was measured for long enough."""

import math

from ..analyze.gate import speedup, without_warm_up
from ..analyze.statistics import LogRatio
from .duel import Duel

LEAST_ROUNDS = 8
CLEAR_LOG = 0.02
"""Half the width of an interval, as a logarithm, that is fine enough to stop."""
WORTH_LOG = 0.02
"""What a change must win, as a logarithm, to be worth it."""
ROUGH_SHARE = 0.1
"""Half the width over the gain from which a rough number will do: it decides the same."""


def ratio_of(duel: Duel) -> LogRatio | None:
    """How many times faster the fixed program is; None of too few rounds."""
    return speedup(without_warm_up(duel.rounds))


def is_clear(duel: Duel) -> bool:
    """Whether more measuring would change nothing about what to do."""
    ratio = ratio_of(duel)
    if ratio is None or len(duel.rounds) < LEAST_ROUNDS:
        return False
    low = ratio.estimate.low
    if low is None or low <= 0:
        return False
    reach = ratio.center - math.log(low)
    return (
        reach <= CLEAR_LOG
        or reach <= ROUGH_SHARE * abs(ratio.center)
        or ratio.center + reach < -WORTH_LOG
    )
