"""What the analysis found; everything that a report shows, before any rounding."""

from dataclasses import dataclass
from enum import Enum

from .drilldown import Drilldown
from .estimate import Estimate as Estimate
from .loader_findings import LoaderFindings
from .prediction import Predictions
from .ranks import RanksFindings
from .run import RunManifest
from .stage import Stage
from .steps import MarkTable

REPORT_SCHEMA = 3
"""Version of the JSON report. History: 1, the first one (2026-11); 2, `ranks` (2026-11);
3, `loader` and `what_if` (2026-11)."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Durations of steps, in ns: `iqr` is the distance between the quartiles."""

    count: int
    median: float
    iqr: float
    p95: float
    total: int


@dataclass(frozen=True, slots=True)
class StageFinding:
    """One stage over the active steps; `share` is its part of their summed time."""

    share: Estimate
    total_ns: int
    median_ns: float
    iqr_ns: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The stages of the active steps; None for a stage that was never marked.

    Attributes:
        steps: durations of the active steps; None when there is none.
        mean_step_ns: throughput: mean over blocks, with its interval; None likewise.
        warmup, disturbed, partial, compiled, interrupted: training steps left out, by reason: the
            first that holds in this order.
        evaluation: batches on which nothing was trained; `evaluation_ns` is what they took.
        samples_per_s: None where the batch size is not known.
        rank_wait_share: part of the step that the host waits for other ranks, whatever the stage;
            None where that was not watched.
    """

    steps: Summary | None
    mean_step_ns: Estimate | None
    warmup: int
    disturbed: int
    partial: int
    compiled: int
    interrupted: int
    evaluation: int
    evaluation_ns: int
    samples_per_s: float | None
    stages: dict[Stage, StageFinding | None]
    rank_wait_share: Estimate | None = None

    def share(self, *stages: Stage) -> float:
        """Part of the step that these stages hold together; 0 where not observed."""
        found = (self.stages[stage] for stage in stages)
        return sum(finding.share.value for finding in found if finding is not None)


@dataclass(frozen=True, slots=True)
class StageGrowth:
    """How much longer a stage takes beside loader workers than in the same loop without them.

    Attributes:
        stage: one of the model's.
        with_ns, alone_ns: a step's part in it with workers, and without.
        ratio: of the two.
    """

    stage: Stage
    with_ns: float
    alone_ns: float
    ratio: Estimate


@dataclass(frozen=True, slots=True)
class Contention:
    """What it costs a loop that others want its cores.

    Attributes:
        workers, threads, cores: what wants to run, and on how many cores.
        growth: how many times longer the loop's own work takes: measured beside the same loop
            without workers; else by what it waited for a core.
        model_ns, model_alone_ns: forward to optimizer of a step, with workers and without them:
            in a typical block where the two took turns, else the mean; None where it was not run
            without them.
        core_wait: see `RunFindings`; None where nobody looked.
        stages: each of the model's stages that both were seen in, as `model_ns`.
    """

    workers: int
    threads: int
    cores: int
    growth: Estimate
    model_ns: float | None = None
    model_alone_ns: float | None = None
    core_wait: Estimate | None = None
    stages: tuple[StageGrowth, ...] = ()

    @property
    def is_told_by_waits(self) -> bool:
        """Whether nothing but the waits for a core tells how much longer the work takes."""
        return self.model_alone_ns is None


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number that a verdict rests on, with the limit that it was held against."""

    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What bounds the step.

    Attributes:
        kind: one of the verdict kinds, e.g. `input-bound`.
        stage: the stage that it is about, None where it is about none.
        severity: `high`, `moderate` or `none`.
        evidence: the numbers, the deciding one first.
        at_stake_share: part of the step that vanishes if the cause vanishes altogether.
        advice: what to try next.
    """

    kind: str
    stage: Stage | None
    severity: str
    evidence: tuple[Evidence, ...]
    at_stake_share: float
    advice: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs that took turns in one process: how many times faster `other` is than `base`.

    `base_step_ns` and `other_step_ns` are what a step takes in a typical block: the same
    trimmed mean of logs, over the same blocks, that the speedup is.
    """

    base: str
    other: str
    speedup: Estimate
    base_step_ns: float
    other_step_ns: float


class EndingKind(Enum):
    """How it is known how a run ended."""

    RECORDED = "recorded"
    """It said so itself."""
    SIGNAL = "signal"
    """The signal that ended it left a note."""
    KILLED = "killed"
    """It said nothing, and its process is gone."""
    RUNNING = "running"
    """It said nothing yet, and its process is still there."""
    UNKNOWN = "unknown"
    """It said nothing, and its process cannot be looked up from here."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How a run ended.

    Attributes:
        kind: how that is known.
        words: as recorded, or as the signal noted; None otherwise.
        last_step_ns: from the first step's start to the end of the last one on disk; None
            without steps.
    """

    kind: EndingKind
    words: str | None
    last_step_ns: int | None


@dataclass(frozen=True, slots=True, eq=False)
class RunFindings:
    """One run, analyzed and diagnosed.

    Attributes:
        core_wait: part of the time from the batch to the step's end for which the loop's thread
            waited for a core, see `CoreWaits`; None where nobody looked.
        verdicts: ranked; the first one is *the* verdict.
        loader: of the one that fed the training; None where none was looked into.
        what_if: what changes would give; None of too few steps.
    """

    manifest: RunManifest
    ending: RunEnding
    breakdown: Breakdown
    core_wait: Estimate | None
    contention: Contention | None
    verdicts: tuple[Verdict, ...]
    drilldown: tuple[Drilldown, ...]
    marks: MarkTable
    gaps: tuple[str, ...]
    loader: LoaderFindings | None = None
    what_if: Predictions | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """Any number of runs, and the comparison of the first two where they took turns.

    Where the ranks of one launch are reported, `runs` holds the lowest of them and the first
    straggler only, and `ranks` is about all of them.
    """

    comparison: Comparison | None
    runs: tuple[RunFindings, ...]
    ranks: RanksFindings | None = None
