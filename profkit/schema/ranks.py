"""The processes of one launch: what each of them left on disk, and what beside the others shows."""

from dataclasses import dataclass

from .estimate import Estimate
from .run import RunManifest
from .stage import Stage
from .steps import Int64Array, StepTable


@dataclass(frozen=True, slots=True, eq=False)
class RankSummary:
    """A bounded sample of a rank's training steps, the same ordinals on every rank.

    Attributes:
        ordinal: (n,) int64, ascending: the number of each step among the training steps of
            the rank, those without `Flag.EVALUATION`.
        stands_for: (n,) int64, how many steps each one stands for.
        steps: the n steps. Their `start_ns` and `end_ns` are on the rank's own clock.
        count: training steps of the rank in all.
    """

    ordinal: Int64Array
    stands_for: Int64Array
    steps: StepTable
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class RankRecord:
    """One rank's run directory, read as far as many ranks together need it."""

    rank: int
    restart: int
    directory: str
    """Its name in the directory of the launch."""
    manifest: RunManifest
    summary: RankSummary


@dataclass(frozen=True, slots=True, eq=False)
class RanksRecord:
    """The ranks of one launch as they are on disk.

    Attributes:
        ranks: those that could be read, ascending; of each the latest restart.
        unreadable: those whose directory could not be read.
        gaps: what was damaged or left aside, in words.
    """

    ranks: tuple[RankRecord, ...]
    unreadable: tuple[int, ...] = ()
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RankFinding:
    """One rank by itself; medians in ns over its timed training steps, None without any.

    Attributes:
        steps: training steps that it recorded.
        own_ns: what its step takes without waiting for other ranks.
        stages: as the host saw them, waiting included; None where never observed.
        wait_ns: in collectives; None where it was not watched.
        ended: how its run ended; None where no end was recorded.
    """

    rank: int
    restart: int
    steps: int
    step_ns: float | None
    own_ns: float | None
    stages: dict[Stage, float | None]
    wait_ns: float | None
    ended: str | None


@dataclass(frozen=True, slots=True)
class Spread:
    """A median of each rank, across the ranks: lowest, middle and highest, in ns."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class Straggler:
    """A rank that is slower than the others in one of its stages, step after step.

    Attributes:
        stage: the one that is slow; None where the slowness is spread over several.
        longer_share: how much longer that stage (the rank's own work where it is None) is than
            the other ranks' median; 0.1 for 10 %. None where the others spend no time in it.
        excess_share: the same time as a share of the step.
        recovered_share: part of the step that is won if this stage of this rank alone takes
            as long as the others' median, by replay; less than the excess where other ranks
            are late too.
        lost_share: the same time as a share of all that is lost to unequal ranks.
        without_ns: what the step would take then.
    """

    rank: int
    stage: Stage | None
    longer_share: Estimate | None
    excess_share: Estimate
    recovered_share: Estimate
    lost_share: Estimate
    without_ns: float


@dataclass(frozen=True, slots=True)
class Replay:
    """The synchronous step from the ranks' own work, over the steps that they have in common.

    Attributes:
        steps: how many steps were compared.
        step_ns: mean: the slowest rank's own work, and the least wait.
        error_share: how much longer than the measured mean step that is; negative for shorter.
        lost_share: part of the step that vanishes if each stage takes the ranks' median.
        jitter_share: part of the step that is lost since now this rank is late, now that one.
    """

    steps: int
    step_ns: float
    error_share: float
    lost_share: Estimate
    jitter_share: float


@dataclass(frozen=True, slots=True)
class RanksFindings:
    """What the ranks of one launch show beside each other.

    Attributes:
        world_size: ranks that were launched.
        ranks: those that could be read.
        missing: ranks that left no data.
        unreadable: ranks whose data could not be read.
        died: ranks without a recorded end while others ended, or which ended differently.
        step, own, wait: across the ranks; None where unknown.
        stages: likewise.
        waits_known: whether waiting in collectives was recorded, so that `own` is without it.
        replay: None where too few steps are common to the ranks.
        stragglers: by the time that they cost; empty if nobody stands out, None if it cannot
            be told.
        recovered_share: part of the step that is won without all of them together.
        gaps: sentences.
    """

    world_size: int
    ranks: tuple[RankFinding, ...]
    missing: tuple[int, ...]
    unreadable: tuple[int, ...]
    died: tuple[int, ...]
    step: Spread | None
    own: Spread | None
    wait: Spread | None
    stages: dict[Stage, Spread | None]
    waits_known: bool
    replay: Replay | None
    stragglers: tuple[Straggler, ...] | None
    recovered_share: Estimate | None
    gaps: tuple[str, ...]
