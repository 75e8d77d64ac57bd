"""What tuning found: fixes, what was predicted of them, and what they gave."""

from dataclasses import dataclass
from enum import Enum

from .estimate import Estimate
from .fix import Fix
from .prediction import Prediction
from .run import Environment, LoaderFacts

TUNE_SCHEMA = 1
"""Version of the JSON. History: 1, the first one (2026-11)."""


class Gain(Enum):
    """What a trial showed."""

    FASTER = "faster"
    SLOWER = "slower"
    EQUAL = "no gain"
    """Surely less than what would be worth a change."""
    UNCLEAR = "unclear"
    """The interval holds both."""
    FAILED = "failed"
    """It could not be applied, or the program did not run with it."""
    LEFT = "not tried"


@dataclass(frozen=True, slots=True)
class Trial:
    """A fix, or several together.

    Attributes:
        fixes: one or more.
        predicted: None for combinations, and where nobody asked.
        speedup: measured; None where it was not.
        gain: what that means.
        same: whether what must stay equal did; None where that is not known.
        reason: why it failed, was not tried, or is not verified.
        notes: sentences from the instances.
        measured_s: that it took, start-up included.
        adds: of several together, whether they are clearly faster than the best of them that is
            proven; None where none is.
        refused: whether the fix itself found that it cannot be applied.
        first: what was measured when it was chosen, of a trial that was then measured once more:
            of several, the luckiest looks better than it is.
        once_s: what it takes once, and no step pays; None where that is not known.
        pays_after: steps until that is won back; None where it is not known, or never.
    """

    fixes: tuple[Fix, ...]
    predicted: Prediction | None
    speedup: Estimate | None
    gain: Gain
    same: bool | None = None
    reason: str | None = None
    notes: tuple[str, ...] = ()
    measured_s: float = 0.0
    adds: bool | None = None
    refused: bool = False
    first: Estimate | None = None
    once_s: float | None = None
    pays_after: int | None = None

    @property
    def name(self) -> str:
        """All fixes in words."""
        return " + ".join(fix.name for fix in self.fixes)

    @property
    def is_final(self) -> bool:
        """Whether it need not be tried again: a crash or a hang may have been chance."""
        return self.speedup is not None or self.refused

    @property
    def is_proven(self) -> bool:
        """Whether it is surely faster, and gives what it must."""
        return self.gain is Gain.FASTER and self.same is True


@dataclass(frozen=True, slots=True)
class TuneFindings:
    """The result of tuning.

    Attributes:
        command: the program, fit for a report.
        step_ns: mean step as it is.
        environment, device, loader: of the program as it is.
        trials: best first.
        runs: how often the program was started.
        wall_s, budget_s: time spent, and what there was.
        looks_s: of it, on looks at the program before anything was tried.
        gaps: sentences.
    """

    command: str
    step_ns: float
    environment: Environment
    device: str | None
    loader: LoaderFacts | None
    trials: tuple[Trial, ...]
    runs: int
    wall_s: float
    budget_s: float
    looks_s: float = 0.0
    gaps: tuple[str, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The fastest that is proven, and holds nothing that adds nothing."""
        proven = (trial for trial in self.trials if trial.is_proven)
        return next((trial for trial in proven if trial.adds is not False), None)
