"""What two or more runs show beside each other."""

from dataclasses import dataclass
from enum import Enum

from .estimate import Estimate
from .findings import RunFindings
from .stage import Stage

COMPARISON_SCHEMA = 1
"""Version of the JSON comparison. History: 1, the first one (2026-11)."""

Fact = str | int | float | None


class Change(Enum):
    """What a ratio of two times shows; an interval that holds 1 shows nothing."""

    FASTER = "faster"
    SLOWER = "slower"
    NOT_SHOWN = "no difference shown"
    UNKNOWN = "too few blocks to tell"


@dataclass(frozen=True, slots=True)
class TimeChange:
    """A time in two runs.

    Attributes:
        base_ns, new_ns: mean or typical time; None for a stage that the run never saw.
        ratio: new over base, with its interval; None where either is None or 0.
        change: what the ratio shows; None without one.
        part: of the mean step's whole change, 1 for all of it; None for the step itself, and
            where the step shows no change.
    """

    base_ns: float | None
    new_ns: float | None
    ratio: Estimate | None
    change: Change | None
    part: float | None = None

    @property
    def change_ns(self) -> float:
        """How much longer it takes in the new run; negative if shorter.

        What one run never saw takes the other all of its time longer.
        """
        return (self.new_ns or 0.0) - (self.base_ns or 0.0)


@dataclass(frozen=True, slots=True)
class Difference:
    """Something beside the measured times in which runs differ.

    Attributes:
        what: e.g. `batch size`.
        values: a run each, in order; None where it was not recorded.
        is_decisive: the times do not measure the same thing, or not on the same thing.
        unit: `bytes` or `MHz`; None for a count or a text.
    """

    what: str
    values: tuple[Fact, ...]
    is_decisive: bool
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class PlaceChange:
    """The place in a stage whose cost changed most, as one probe saw it in either run.

    Attributes:
        probe: which saw it: `samples`, `lines`, `stacks` or `torch`.
        name, source: see `Cost`; of the run that it costs more.
        base_ns, new_ns: the probe's share of the stage's mean time in a step; None where it was
            not among the costliest places that the probe saw, if it looked at all.
    """

    stage: Stage
    probe: str
    name: str
    source: str | None
    base_ns: float | None
    new_ns: float | None

    @property
    def change_ns(self) -> float:
        """How much more it costs in the new run, as far as either was seen."""
        return (self.new_ns or 0.0) - (self.base_ns or 0.0)


@dataclass(frozen=True, slots=True)
class PairFindings:
    """A new run beside a base.

    Attributes:
        mean: time over steps: rare slow steps count in full.
        typical: median step of a typical block: rare slow steps do not count.
        per_sample: time over samples, where the batches differ in size; else None.
        stages: None for one that neither run saw.
        explained_by: the stages that hold at least `EXPLAINING_PART` of the step's change, the
            largest first; where the step shows no change, those that changed all the same.
        place: in one of them, the one whose cost changed most; None where no drill-down tells.
    """

    mean: TimeChange
    typical: TimeChange
    per_sample: TimeChange | None
    stages: dict[Stage, TimeChange | None]
    explained_by: tuple[Stage, ...]
    place: PlaceChange | None

    @property
    def leading(self) -> TimeChange:
        """The one that says which run is faster."""
        return self.mean if self.per_sample is None else self.per_sample


@dataclass(frozen=True, slots=True)
class RankedRun:
    """A run in the order of speed.

    Attributes:
        run: its number in the order in which the runs were given, from 0.
        time_ns: mean step; mean time of a sample where the batches differ in size.
        ratio: of this time over the fastest run's, with its interval; None for that run itself.
        letters: runs that share one are not shown to differ; None of too few blocks to tell.
    """

    run: int
    time_ns: float
    ratio: Estimate | None
    letters: str | None


@dataclass(frozen=True, slots=True, eq=False)
class RunsComparison:
    """Two or more runs beside each other.

    Attributes:
        runs: in the order given; their names are all different.
        differences: in anything but the times, the decisive ones first.
        in_turns: whether all of them took turns, block by block, in one process, and are
            compared pair of blocks by pair.
        drifts: by how much each run's steps grew longer while it ran, as a ratio minus 1; None
            where there is no trend, or where turns cancel it.
        pair: of two runs; None of more.
        ranking: of three or more runs, the fastest first; else empty.
        by_sample: whether the ranking is by the time of a sample.
    """

    runs: tuple[RunFindings, ...]
    differences: tuple[Difference, ...]
    in_turns: bool
    drifts: tuple[float | None, ...]
    pair: PairFindings | None
    ranking: tuple[RankedRun, ...]
    by_sample: bool
