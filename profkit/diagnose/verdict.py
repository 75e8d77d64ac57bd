"""The ranked verdicts of a run."""

from dataclasses import replace

from ..schema.findings import Breakdown, Comparison, Evidence, Verdict
from ..schema.stage import Stage
from . import policy
from .rules import RULES
from .situation import Situation


def judge(situation: Situation) -> tuple[Verdict, ...]:
    """All verdicts that hold, the one with the most time at stake first; never empty.

    Contention comes before anything else: it puts the other shares in doubt.
    """
    lacking = _insufficient(situation.breakdown)
    if lacking is not None:
        return (lacking,)
    found = [verdict for rule in RULES if (verdict := rule(situation)) is not None]
    if not found:
        return (_balanced(situation.breakdown),)
    return tuple(sorted(found, key=lambda one: (one.kind != "contended", -one.at_stake_share)))


def add_comparison(verdicts: tuple[Verdict, ...], seen: Comparison) -> tuple[Verdict, ...]:
    """The verdicts of the base run, those on its data wait with the speedup that was measured."""
    speedup = seen.speedup
    measured = Evidence("speedup_measured", speedup.value, "ratio", speedup.low, speedup.high)
    return tuple(
        replace(verdict, evidence=(*verdict.evidence, measured))
        if verdict.stage is Stage.DATALOADER
        else verdict
        for verdict in verdicts
    )


def _insufficient(breakdown: Breakdown) -> Verdict | None:
    count = 0 if breakdown.steps is None else breakdown.steps.count
    mean = breakdown.mean_step_ns
    if count < policy.MIN_STEPS:
        evidence = Evidence("steps", count, "steps", limit=policy.MIN_STEPS)
        advice = f"Record at least {policy.MIN_STEPS} steps after warm-up."
    elif mean is None or mean.low is None or mean.high is None:
        return None
    elif (width := (mean.high - mean.low) / mean.value) > policy.MAX_RELATIVE_INTERVAL:
        evidence = Evidence("relative_interval", width, "share", limit=policy.MAX_RELATIVE_INTERVAL)
        advice = "Record more steps, or free the machine from what else runs on it."
    else:
        return None
    return Verdict("insufficient data", None, "none", (evidence,), 0.0, advice)


def _balanced(breakdown: Breakdown) -> Verdict:
    shares = {
        stage: finding.share.value
        for stage, finding in breakdown.stages.items()
        if finding is not None
    }
    largest = max(shares, key=lambda stage: shares[stage])
    return Verdict(
        kind="balanced",
        stage=None,
        severity="none",
        evidence=(Evidence(largest.value, shares[largest], "share"),),
        at_stake_share=0.0,
        advice="Nothing stands out: any further gain is spread over the stages.",
    )
