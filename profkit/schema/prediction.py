"""What a step would take after a change: asked and answered."""

from dataclasses import dataclass
from enum import Enum

from .estimate import Estimate


class Change(Enum):
    """What may be changed."""

    PART = "part"
    """A stage, a transform or another part of a batch's cost takes less."""
    MEMORY = "memory"
    """The data lies in memory, decoded; no loader is left."""
    WORKERS = "workers"
    PREFETCH = "prefetch"
    THREADS = "threads"
    """So many intra-op threads."""
    BATCH = "batch"
    """Batches are so many times larger."""
    TRY = "try"
    """A fix whose effect no recording holds."""


@dataclass(frozen=True, slots=True)
class Question:
    """One change.

    Attributes:
        change: what kind.
        name: of the stage, part or fix; empty for the other kinds.
        amount: `PART`: the share that goes, above 0 and at most 1; `WORKERS`, `PREFETCH`,
            `THREADS`: how many; `BATCH`: how many times as large.
    """

    change: Change
    name: str = ""
    amount: float = 1.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to a question.

    Attributes:
        question: what was asked.
        step_ns: mean step after the change; None where the recording cannot tell.
        speedup: how many times faster a sample is trained on; None likewise.
        bound: the most that the change can give, as a speedup; None where that is not known.
        reason: why there is no estimate.
        assumes: what the estimate takes for granted.
    """

    question: Question
    step_ns: Estimate | None
    speedup: Estimate | None
    bound: float | None
    reason: str | None = None
    assumes: str | None = None


@dataclass(frozen=True, slots=True)
class Predictions:
    """Answers about one run.

    Attributes:
        run: its name.
        step_ns: mean step as it was measured.
        replayed_ns: the same by replay: how good the model is on what it is made from.
        held_out_error: one half of the run replayed, over the other half as measured, less 1;
            None where there are too few batches.
        workers: the fewest loader workers that promise nearly the best step; None where that was
            not asked, or cannot be told.
        batches: that the answers rest on.
        answers: in the order of the questions.
        gaps: sentences.
    """

    run: str
    step_ns: Estimate
    replayed_ns: float
    held_out_error: float | None
    workers: int | None
    batches: int
    answers: tuple[Prediction, ...]
    gaps: tuple[str, ...] = ()
