"""What was measured of a rung, in numbers that a report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import profkit

from .forecast import Forecast, forecast
from .ladder import Rung
from .results import Result


@dataclass(frozen=True, slots=True)
class Step:
    """What profkit says of a rung's step.

    Attributes:
        mean_ms: a step.
        stage_shares: part of it, by stage; None where that was not observed.
        verdict: the first one, as a sentence.
        kind: the verdict's word.
    """

    mean_ms: float
    stage_shares: Mapping[str, float | None]
    verdict: str
    kind: str


@dataclass(frozen=True, slots=True)
class RungFindings:
    """A rung, measured.

    Attributes:
        rung: which.
        results: a training each, at least one.
        isolated: the same without the rung's riders; none where it has none, or nobody asked.
        step: by a recorded epoch.
        forecast: what was said of this rung from the one before; None for the first.
    """

    rung: Rung
    results: Sequence[Result]
    isolated: Sequence[Result]
    step: Step
    forecast: Forecast | None

    @property
    def seconds(self) -> list[float]:
        """On the clock, one a seed."""
        return [one.training.seconds for one in self.results]

    @property
    def accuracies(self) -> list[float]:
        """0 to 1, one a seed."""
        return [one.training.accuracy for one in self.results]

    @property
    def epochs(self) -> list[int]:
        """Until it stopped, one a seed."""
        return [len(one.training.epochs) for one in self.results]

    @property
    def epoch_s(self) -> float:
        """Median over all epochs of all seeds of what training on one took, in s."""
        return epoch_s_of(self.results)


def epoch_s_of(results: Sequence[Result]) -> float:
    """Median over all epochs of all trainings of what training on one took, in s."""
    return float(np.median([epoch.train_s for one in results for epoch in one.training.epochs]))


def find(
    rungs: Sequence[Rung],
    results: Mapping[str, Sequence[Result]],
    isolated: Mapping[str, Sequence[Result]],
    runs: Mapping[str, Path],
) -> list[RungFindings]:
    """Join what was measured with what profkit says.

    Args:
        rungs: in order.
        results: of each, by name.
        isolated: of some of them without their riders, by name.
        runs: run directory of a recorded epoch of each, by name.
    """
    found: list[RungFindings] = []
    for before, rung in zip([None, *rungs], rungs, strict=False):
        said = None
        if before is not None and before.number == rung.number - 1:
            said = forecast(runs[before.name], before.recipe, rung.isolated)
        step = step_of(runs[rung.name])
        alone = isolated.get(rung.name, ())
        found.append(RungFindings(rung, results[rung.name], alone, step, said))
    return found


def step_of(run: Path) -> Step:
    """What profkit reports of a recorded run."""
    text = profkit.render_report(profkit.report(run), "json")
    said: dict[str, Any] = msgspec.json.decode(text)["runs"][0]
    stages = {
        name: None if stage is None else float(stage["share"])
        for name, stage in said["stages"].items()
    }
    verdict = said["verdict"]
    mean_ms = said["steps"]["step_time_ns"]["mean"] / 1e6
    return Step(mean_ms, stages, verdict["sentence"], verdict["kind"])
