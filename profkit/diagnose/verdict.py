"""The ranked verdicts of a run."""

from dataclasses import replace

from ..schema.findings import Breakdown, Comparison, Evidence, Verdict
from ..schema.stage import Stage
from . import policy
from .rules import RULES
from .situation import Situation

SPEEDUP_MEASURED = "speedup_measured"
"""Evidence: how many times faster the run was that took turns with this one."""


def judge(situation: Situation) -> tuple[Verdict, ...]:
    """All verdicts that hold, the one with the most time at stake first; never empty.

    Contention comes before anything else: it puts the other shares in doubt. Where the number
    that decides is too uncertain, *insufficient data* comes before what it would have been.
    """
    breakdown = situation.breakdown
    count = 0 if breakdown.steps is None else breakdown.steps.count
    if count < policy.MIN_STEPS:
        evidence = Evidence("steps", count, "steps", limit=policy.MIN_STEPS)
        return (_insufficient(evidence, f"Time at least {policy.MIN_STEPS} steps."),)
    found = [verdict for rule in RULES if (verdict := rule(situation)) is not None]
    if any(verdict.kind == "contended" for verdict in found):
        # The model takes that long because of the workers: it is not the model that is slow.
        found = [verdict for verdict in found if verdict.kind != "compute-bound"]
    found.sort(key=lambda one: (one.kind != "contended", -one.at_stake_share))
    verdicts = tuple(found) or (_balanced(breakdown),)
    noisy = _noise(verdicts[0].evidence[0])
    if noisy is None:
        return verdicts
    advice = "Time more steps, or free the machine from what else runs on it."
    return (_insufficient(noisy, advice), *verdicts)


def _noise(deciding: Evidence) -> Evidence | None:
    """The relative width of the interval of a share that decides, if it is too wide."""
    # A rule asks for the lower end of an interval, so what fired is sure enough of its limit;
    # a share that may as well be half or twice as large still tells a reader little.
    if deciding.unit != "share" or deciding.low is None or deciding.high is None:
        return None
    width = (deciding.high - deciding.low) / deciding.value
    if width <= policy.MAX_RELATIVE_INTERVAL:
        return None
    return Evidence(
        f"relative_interval_of_{deciding.name}",
        width,
        "share",
        limit=policy.MAX_RELATIVE_INTERVAL,
    )


def add_comparison(verdicts: tuple[Verdict, ...], seen: Comparison) -> tuple[Verdict, ...]:
    """The verdicts of the base run; the first on its data wait gets the speedup as evidence."""
    speedup = seen.speedup
    measured = Evidence(SPEEDUP_MEASURED, speedup.value, "ratio", speedup.low, speedup.high)
    for row, verdict in enumerate(verdicts):
        if verdict.stage is Stage.DATALOADER:
            told = replace(verdict, evidence=(*verdict.evidence, measured))
            return (*verdicts[:row], told, *verdicts[row + 1 :])
    return verdicts


def _insufficient(evidence: Evidence, advice: str) -> Verdict:
    return Verdict("insufficient data", None, "none", (evidence,), 0.0, advice)


def _balanced(breakdown: Breakdown) -> Verdict:
    shares = {
        stage: finding.share for stage, finding in breakdown.stages.items() if finding is not None
    }
    largest = max(shares, key=lambda stage: shares[stage].value)
    share = shares[largest]
    return Verdict(
        kind="balanced",
        stage=None,
        severity="none",
        evidence=(Evidence(largest.value, share.value, "share", share.low, share.high),),
        at_stake_share=0.0,
        advice="Nothing stands out: any further gain is spread over the stages.",
    )
