"""One function a verdict kind: the verdict if its condition holds, else None."""

from collections.abc import Callable

from ..schema.estimate import Estimate
from ..schema.findings import Contention, Evidence, StageFinding, Verdict
from ..schema.stage import Stage
from . import policy
from .situation import Situation

Rule = Callable[[Situation], Verdict | None]

_MODEL = (Stage.FORWARD, Stage.BACKWARD)


def contended(situation: Situation) -> Verdict | None:
    """Workers and intra-op threads want more cores than there are, and the loop pays."""
    seen = situation.contention
    if seen is None or seen.workers + seen.threads <= seen.cores:
        return None
    if situation.on_device and seen.is_told_by_waits:
        return None  # where the host waits, the device may be at work
    least = seen.growth.low if seen.growth.low is not None else seen.growth.value
    if 1 - 1 / least < policy.CONTENTION_SHRINK_SHARE:
        return None
    breakdown = situation.breakdown
    model = breakdown.share(*_MODEL, Stage.OPTIMIZER)
    # The workers compete while the loop waits for them too, so the wait is in doubt as well.
    at_stake = model * (1 - 1 / seen.growth.value) + breakdown.share(Stage.DATALOADER)
    return Verdict(
        kind="contended",
        stage=Stage.DATALOADER,
        severity=_severity(at_stake),
        evidence=(
            *_growth_evidence(seen),
            Evidence("runnable", seen.workers + seen.threads, "threads", limit=seen.cores),
            *_producer_evidence(situation),
        ),
        at_stake_share=at_stake,
        advice="Judge workers and threads together: fewer of both, or no loader at all: data that "
        "fits can stay in memory. profkit tune tries them together."
        + (" And free the machine from what else runs on it." if seen.is_told_by_waits else ""),
    )


def _producer_evidence(situation: Situation) -> tuple[Evidence, ...]:
    """How much of their time the workers compute, and how much of it they wait for a core."""
    producer = situation.producer
    if producer is None:
        return ()
    computing = Evidence("worker_cpu", producer.cpu_share, "share")
    if producer.core_wait_share is None:
        return (computing,)
    return computing, Evidence("worker_core_wait", producer.core_wait_share, "share")


def _growth_evidence(seen: Contention) -> tuple[Evidence, ...]:
    """What decides first; where that is the growth, each stage's and the waits for a core too."""
    wait, limit = seen.core_wait, policy.CONTENTION_SHRINK_SHARE
    if wait is not None and seen.is_told_by_waits:
        return (Evidence("core_wait", wait.value, "share", wait.low, wait.high, limit),)
    growth = seen.growth
    found = [
        Evidence(
            "model_growth", growth.value, "ratio", growth.low, growth.high, limit=1 / (1 - limit)
        )
    ]
    for one in seen.stages:
        ratio = one.ratio
        name = f"{one.stage.value}_growth"
        found.append(Evidence(name, ratio.value, "ratio", ratio.low, ratio.high))
    if wait is not None:
        found.append(Evidence("core_wait", wait.value, "share", wait.low, wait.high))
    return tuple(found)


def input_bound(situation: Situation) -> Verdict | None:
    """The loop waits for data; on a device only if the device has nothing to do meanwhile."""
    finding = situation.breakdown.stages[Stage.DATALOADER]
    share = _fired(finding, policy.INPUT_BOUND_MODERATE_SHARE)
    if share is None or finding is None:
        return None
    evidence = [_share_evidence("data_wait", finding, policy.INPUT_BOUND_SHARE)]
    if situation.on_device:
        idle = situation.device_idle_in_wait_share
        if idle is None or idle < policy.DEVICE_IDLE_SHARE:
            return None
        evidence.append(
            Evidence("device_idle_in_wait", idle, "share", limit=policy.DEVICE_IDLE_SHARE)
        )
    evidence.append(Evidence("speedup_without_wait", 1 / (1 - min(share, 0.999)), "ratio"))
    return Verdict(
        kind="input-bound",
        stage=Stage.DATALOADER,
        severity="high" if _least(finding) >= policy.INPUT_BOUND_SHARE else "moderate",
        evidence=tuple(evidence),
        at_stake_share=share,
        advice=_loading_advice(situation),
    )


def transfer_bound(situation: Situation) -> Verdict | None:
    """Copies to the device hold the loop."""
    return _stage_bound(
        situation,
        "transfer-bound",
        Stage.TRANSFER,
        policy.TRANSFER_BOUND_SHARE,
        "Pin the batch's memory and copy with non_blocking=True, or keep the data on the device.",
    )


def optimizer_bound(situation: Situation) -> Verdict | None:
    """The optimizer is the largest stage, and large."""
    stages = situation.breakdown.stages
    shares = {stage: found.share.value for stage, found in stages.items() if found is not None}
    if not shares or max(shares, key=lambda stage: shares[stage]) is not Stage.OPTIMIZER:
        return None
    return _stage_bound(
        situation,
        "optimizer-bound",
        Stage.OPTIMIZER,
        policy.OPTIMIZER_BOUND_SHARE,
        "Try a fused or foreach optimizer, or a larger batch: fewer steps an epoch.",
    )


def other_bound(situation: Situation) -> Verdict | None:
    """What no stage claims (logging, .item(), checkpoints) holds the loop."""
    return _stage_bound(
        situation,
        "other-bound",
        Stage.OTHER,
        policy.OTHER_BOUND_SHARE,
        _other_advice(situation),
    )


def rank_bound(situation: Situation) -> Verdict | None:
    """The rank is kept waiting by other ranks, in whichever stage that is."""
    share = situation.breakdown.rank_wait_share
    if share is None or _lower_end(share) < policy.RANK_BOUND_SHARE:
        return None
    evidence = Evidence(
        "rank_wait", share.value, "share", share.low, share.high, policy.RANK_BOUND_SHARE
    )
    return Verdict(
        kind="rank-bound",
        stage=None,
        severity=_severity(share.value),
        evidence=(evidence,),
        at_stake_share=share.value,
        advice="Look at all ranks together: the one that waits least is the slow one.",
    )


def compute_bound(situation: Situation) -> Verdict | None:
    """Forward and backward hold most of the step, whatever else holds a part of it."""
    stages = situation.breakdown.stages
    shares = [found.share for stage in _MODEL if (found := stages[stage]) is not None]
    # What lies in them but is a wait for other ranks is no computing.
    waited = situation.breakdown.rank_wait_share
    idle = 0.0 if waited is None else waited.value
    value = sum(share.value for share in shares) - idle
    # Their joint interval is narrower; the sum of the ends is on the safe side.
    low = sum(_lower_end(share) for share in shares) - idle
    high = sum(share.value if share.high is None else share.high for share in shares) - idle
    if low < policy.COMPUTE_BOUND_SHARE:
        return None
    largest = max(_MODEL, key=lambda stage: situation.breakdown.share(stage))
    return Verdict(
        kind="compute-bound",
        stage=largest,
        severity="none",
        evidence=(
            Evidence("forward_and_backward", value, "share", low, high, policy.COMPUTE_BOUND_SHARE),
        ),
        at_stake_share=value,
        advice="The model itself costs the time: a lower precision, channels_last, compile, "
        "or a smaller network.",
    )


RULES: tuple[Rule, ...] = (
    contended,
    input_bound,
    transfer_bound,
    optimizer_bound,
    other_bound,
    rank_bound,
    compute_bound,
)


def _loading_advice(situation: Situation) -> str:
    loader = situation.manifest.loader
    if loader is not None and loader.source == "memory":
        return "The data is in memory already: what is left is slicing it, once a batch."
    advice = "Keep the decoded data in memory if it fits"
    if loader is not None and loader.num_workers:
        return advice + "."
    return advice + "; loader workers help only where cores are idle."


def _other_advice(situation: Situation) -> str:
    if situation.manifest.process is not None:
        return "Do it less often, without .item() or other waits, or in another thread."
    stages = situation.breakdown.stages.items()
    if any(found for stage, found in stages if stage not in (Stage.DATALOADER, Stage.OTHER)):
        return "Mark what the loop does outside the stages, or do it less often."
    return "Nothing but the loader is marked: mark forward, backward and optimizer."


def _stage_bound(
    situation: Situation, kind: str, stage: Stage, limit: float, advice: str
) -> Verdict | None:
    finding = situation.breakdown.stages[stage]
    share = _fired(finding, limit)
    if share is None or finding is None:
        return None
    return Verdict(
        kind=kind,
        stage=stage,
        severity=_severity(share),
        evidence=(_share_evidence(stage.value, finding, limit),),
        at_stake_share=share,
        advice=advice,
    )


def _fired(finding: StageFinding | None, limit: float) -> float | None:
    """The share, if the lower end of its interval reaches the limit."""
    if finding is None or _least(finding) < limit:
        return None
    return finding.share.value


def _least(finding: StageFinding) -> float:
    return _lower_end(finding.share)


def _lower_end(share: Estimate) -> float:
    return share.low if share.low is not None else share.value


def _share_evidence(name: str, finding: StageFinding, limit: float) -> Evidence:
    share = finding.share
    return Evidence(name, share.value, "share", share.low, share.high, limit)


def _severity(share: float) -> str:
    return "high" if share >= policy.HIGH_SEVERITY_SHARE else "moderate"
