"""What the gate found: two versions of a training program, measured in turns on one machine."""

from dataclasses import dataclass

from .decision import Decision, Outcome
from .estimate import Estimate
from .run import Environment, LoaderFacts
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Version:
    """One of the programs that took turns.

    Attributes:
        name: what reports call it: a revision, a command, `working tree`.
        command: fit for a report.
        commit: None where none is known; with `+changes` where files differ from it.
        instances: processes that were measured.
        steps: that count.
        step_ns: typical step: trimmed mean of the logs of the blocks' low quantiles.
        mean_step_ns: time over steps, rare slow ones included.
        stage_ns: mean of each stage in a step; None for a stage that was never seen.
        loader: how its batches are made; None where no loader was seen.
    """

    name: str
    command: str
    commit: str | None
    instances: int
    steps: int
    step_ns: float
    mean_step_ns: float
    stage_ns: dict[Stage, float | None]
    loader: LoaderFacts | None


@dataclass(frozen=True, slots=True)
class StageChange:
    """What a stage does to the step.

    Attributes:
        stage: which.
        change_ns: how much longer it takes in a step of the new version; negative if shorter.
        ratio: new over base, with its interval; None where one of them never saw it.
    """

    stage: Stage
    change_ns: float
    ratio: Estimate | None


@dataclass(frozen=True, slots=True)
class Noise:
    """How sure the machine let the gate be.

    Attributes:
        block_share: relative standard deviation between two blocks of the same process, one soon
            after the other: what identical code shows.
        warm_up_blocks: left out at the beginning.
        outliers: pairs of blocks far from the bulk; they count in the throughput only.
        drift: by how much all steps grew longer while it measured, as a ratio minus 1; None
            where there is no trend.
    """

    block_share: float
    warm_up_blocks: int
    outliers: int
    drift: float | None


@dataclass(frozen=True, slots=True)
class BlockPair:
    """Two blocks of one version in the same round.

    Attributes:
        log_ns: logarithms of what a step takes in each of them, in ns.
        steps: that count.
        mean_ns: time over steps.
        stage_ns: (6,) mean of each stage in their steps, in the order of `STAGES`; None for one
            that was never seen.
    """

    log_ns: tuple[float, float]
    steps: int
    mean_ns: float
    stage_ns: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of turns gave, in the order base, new, new, base or the reverse.

    Attributes:
        pair: which pair of instances ran it.
        ended_s: when, since the measuring began.
        base: None where there is nothing to compare with.
        new: the version that is judged.
    """

    pair: int
    ended_s: float
    base: BlockPair | None
    new: BlockPair


@dataclass(frozen=True, slots=True)
class GateFindings:
    """The result of a check.

    Attributes:
        outcome: of all decisions: ABOVE is a regression, BELOW is within the limits.
        decisions: the first one that is ABOVE, if any, first.
        base: None where the limits are a budget's and there was nothing to compare with.
        new: the version that is judged.
        changes: by stage, the largest first; empty without a base.
        noise: see there.
        environment: of the processes that were measured.
        device: that the model ran on.
        looks: how often the data were looked at.
        measured_s, wall_s: time spent on blocks, and on the whole check.
        gaps: sentences: what limits the result.
        rounds: all of them, the warm-up included: what the decisions rest on.
    """

    outcome: Outcome
    decisions: tuple[Decision, ...]
    base: Version | None
    new: Version
    changes: tuple[StageChange, ...]
    noise: Noise
    environment: Environment
    device: str | None
    looks: int
    measured_s: float
    wall_s: float
    gaps: tuple[str, ...] = ()
    rounds: tuple[Round, ...] = ()
