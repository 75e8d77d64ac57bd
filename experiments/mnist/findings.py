"""What was measured of a rung, in numbers that a report shows."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import profkit

from ..measured import mean_interval
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
        before: the rung that it changes; None where that was not measured.
        forecast: what was said of this rung from a recording of that one; None without it.
    """

    rung: Rung
    results: Sequence[Result]
    isolated: Sequence[Result]
    step: Step
    before: "RungFindings | None"
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
        """What training on all images once takes, in s: median over trainings; see `epoch_s_of`."""
        return _epoch_s(self.results)

    @property
    def alone_epoch_s(self) -> float:
        """The same of the change without its riders, where that was measured."""
        return _epoch_s(self.alone)

    @property
    def stages_s(self) -> dict[str, float | None]:
        """What each stage took of the recorded epoch; None where it was not observed."""
        return {
            stage: None if share is None else share * self.recorded_epoch_s
            for stage, share in self.step.stage_shares.items()
        }

    @property
    def recorded_epoch_s(self) -> float:
        """What the steps of the recorded epoch took."""
        return self.step.mean_ms * self.results[0].training.steps / 1e3

    @property
    def alone(self) -> Sequence[Result]:
        """The change without its riders, where that was measured, else with them."""
        return self.isolated or self.results

    def until(self, accuracy: float) -> list[float]:
        """What it took to reach an accuracy on the test images, in s, one a seed that did so."""
        times = (_until(one, accuracy) for one in self.results)
        return [taken for taken in times if taken is not None]


def epoch_s_of(result: Result) -> float:
    """What training on all images once took, by the first epoch, in s.

    By that alone: it is colder than those after it, and some trainings have no other. One that
    ends early is stretched to all its batches.
    """
    first = result.training.epochs[0]
    return first.train_s * result.training.steps / first.steps


def _epoch_s(results: Sequence[Result]) -> float:
    return float(np.median([epoch_s_of(one) for one in results]))


def seconds_of(result: Result) -> float:
    """The whole training on its clock, in s."""
    return result.training.seconds


def times_faster(
    before: Sequence[Result], after: Sequence[Result], time_of: Callable[[Result], float]
) -> tuple[float, float, float]:
    """How many times faster the second is, paired by seed, since those had their turns together.

    Returns:
        As of `mean_ratio`.
    """
    old = {one.key.seed: time_of(one) for one in before}
    pairs = [(old[one.key.seed], time_of(one)) for one in after if one.key.seed in old]
    return mean_ratio([one for one, _ in pairs], [two for _, two in pairs])


def mean_ratio(before: Sequence[float], after: Sequence[float]) -> tuple[float, float, float]:
    """How many times less what came after is, pair by pair.

    Args:
        before, after: positive, of the same length.

    Returns:
        Geometric mean of the ratios and its 95 % interval, which is not a number of one.
    """
    logs = [math.log(old / new) for old, new in zip(before, after, strict=True)]
    mean, low, high = (math.exp(one) for one in mean_interval(logs))
    return mean, low, high


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
    found: dict[str, RungFindings] = {}
    for rung in rungs:
        before = None if rung.on is None else found.get(rung.on)
        said = None
        if before is not None:
            said = forecast(runs[before.rung.name], before.rung.recipe, rung.isolated)
        step = step_of(runs[rung.name])
        alone = isolated.get(rung.name, ())
        found[rung.name] = RungFindings(rung, results[rung.name], alone, step, before, said)
    return list(found.values())


def _until(result: Result, accuracy: float) -> float | None:
    """Seconds to the test that showed it; None where none did."""
    training = result.training
    # What the clock counts beside epochs: loading where the recipe says so, and making the model.
    taken = training.seconds - sum(one.train_s + one.test_s for one in training.epochs)
    for one in training.epochs:
        taken += one.train_s + one.test_s
        if one.accuracy >= accuracy:
            return taken
    return None


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
