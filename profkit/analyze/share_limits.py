"""Holds the stages' shares of the step against a budget."""

from collections.abc import Mapping

from ..schema.decision import Decision, Outcome
from ..schema.stage import STAGES, Stage
from .statistics import Values, share_excess, share_of_sums, widen_share_between_processes

SHARE_ERROR_RATE = 0.005
"""Chance, over all looks, to call a share beyond a limit that it equals."""


def judge_shares(
    stages: Mapping[Stage, Values | None],
    steps: Values,
    limits: Mapping[Stage, float],
    *,
    looks: int = 1,
    processes: int = 1,
) -> tuple[tuple[Decision, ...], tuple[str, ...]]:
    """A decision for each limit, in the order of the stages.

    Args:
        stages: (b,) time in each stage, block by block; None where it was never seen.
        steps: (b,) time of all steps of each block, positive.
        limits: share of the step that a stage may hold, 0 to 1.
        looks: how many there will be at most: each has its part of the error rate.
        processes: process instances that the blocks come from.

    Returns:
        The decisions, and a sentence for each limit that could not be judged: the stage was never
        seen, and absent is not zero. What could not be judged is inconclusive.
    """
    decisions, gaps = [], []
    for stage in (one for one in STAGES if one in limits):
        limit, parts = limits[stage], stages.get(stage)
        if parts is None:
            gaps.append(
                f"the share of {stage.value} has a limit, but no step had such a stage: take the "
                "limit out of the budget, or mark the stage"
            )
            continue
        estimate = widen_share_between_processes(share_of_sums(parts, steps), processes)
        excess = share_excess(parts, steps, limit, processes)
        outcome = Outcome.INCONCLUSIVE if excess is None else excess.side(SHARE_ERROR_RATE / looks)
        decisions.append(Decision(f"share of {stage.value}", "share", estimate, limit, outcome))
    return tuple(decisions), tuple(gaps)
