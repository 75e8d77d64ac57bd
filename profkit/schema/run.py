"""The facts about one run that are written once: its manifest."""

from dataclasses import dataclass

SCHEMA_VERSION = 2
"""Version of a run directory. History: 1, the first one (2026-11); 2, steps that are evaluation,
compilation or interrupted; ranks; what lay apart from the steps (2026-11)."""

KILLED = "killed, with no end recorded"
"""How a run is told to have ended whose process is gone without a word."""
COMPLETED = "completed"
"""How a run ended whose loop ran to its end."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine. None where it could not be told."""

    processor: str
    frequency_mhz: float | None
    physical_cores: int | None
    logical_cores: int
    usable_cores: int
    """Cores that this process may run on (affinity and container limits)."""
    memory_bytes: int | None
    gpus: tuple[str, ...]
    system: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Hardware, versions and settings that a time depends on."""

    hardware: Hardware
    versions: dict[str, str]
    intra_op_threads: int | None
    inter_op_threads: int | None
    commit: str | None
    """Git commit of the working directory, with `+changes` where it is not clean."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The data that the run was fed."""

    name: str
    """`MNIST`, or `drawn digits` (synthetic; its accuracy is never MNIST's)."""
    origin: str
    """Where it came from, in words fit for a report: never a path of this machine."""
    train_samples: int
    test_samples: int


@dataclass(frozen=True, slots=True)
class LoaderFacts:
    """How batches were made."""

    source: str
    """`dataloader` or `memory`, or what the user called it."""
    batch_size: int | None
    num_workers: int | None
    prefetch_factor: int | None
    number: int | None = None
    """Under which the costs of its batches are recorded, see `schema.loader`."""


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """One probe: what it looked at and what it cost.

    Attributes:
        name: `clock`, `samples`, `torch`, `stacks` or `lines`; `reference` for the pass without
            loader workers.
        steps: steps that it saw; for the samples, which it disturbed.
        wall_ns: how long its pass took, set-up and writing included; for the clock, writing; for
            the samples, their windows.
        step_ns: median step in its pass; beside the light pass it gives the slow-down. For the
            clock, what its marks cost in each step.
        detail: rate, file, in words.
        gap: why it could not work, else None.
    """

    name: str
    steps: int
    wall_ns: int | None = None
    step_ns: int | None = None
    detail: str | None = None
    gap: str | None = None


@dataclass(frozen=True, slots=True)
class Apart:
    """What took time beside the steps, or within steps that are not timed because of it.

    Attributes:
        kind: `evaluation` (inside a training step) or `compilation`.
        count: batches, or compilations.
        total_ns: how long they took together.
    """

    kind: str
    count: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class CoreWaits:
    """How long the loop's thread was ready to run and got no core, in the steps looked at.

    Attributes:
        steps: how many.
        spans_ns: (b,) for each block of them, what passed from the batches to the steps' ends,
            waits for further batches included; whole steps where no loader opens them.
        waits_ns: (b,) how long of that the thread waited for a core.
    """

    steps: int
    spans_ns: tuple[int, ...]
    waits_ns: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RankFacts:
    """Which of the processes of one launch this run is.

    Attributes:
        rank: 0 to `world_size` - 1.
        launch: the same for all ranks of one launch, and for no other.
        restart: how often the launcher had begun anew.
    """

    rank: int
    world_size: int
    launch: str
    restart: int = 0


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """Which process it was: tells a run that was killed from one that goes on.

    Attributes:
        pid: its id.
        created_s: when it began, in s since the epoch; with the id it is unique on a machine.
        machine: a digest of the machine's name: elsewhere the id says nothing.
    """

    pid: int
    created_s: float
    machine: str


@dataclass(frozen=True, slots=True)
class RunManifest:
    """`run.json`. `ended` is None until the run ends, and stays None when it is killed."""

    schema: int
    name: str
    command: str
    started_at: str
    ended: str | None
    device: str | None
    environment: Environment
    data: DataFacts | None = None
    loader: LoaderFacts | None = None
    workload: str | None = None
    asked_stage: str | None = None
    """The stage that the drill-down was asked for, or `step` for all."""
    group: str | None = None
    """Runs with the same group took turns, block by block, in one process."""
    probes: tuple[ProbeFacts, ...] = ()
    gaps: tuple[str, ...] = ()
    apart: tuple[Apart, ...] = ()
    rank: RankFacts | None = None
    process: ProcessFacts | None = None
    core_waits: CoreWaits | None = None
