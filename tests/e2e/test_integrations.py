"""Trainings with real frameworks, alone and under `profkit run`; what the scripts slow is found."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import frameworks
from profkit import api
from profkit.schema.findings import RunFindings
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import NOT_TIMED, Flag, StepTable
from profkit.store.records import read_run
from programs import PROJECT

pytestmark = pytest.mark.alone

BATCHES, EVALUATION_BATCHES, EPOCHS = 24, 3, 2
WARMUP = 4
SLOW_DATA, SLOW_FORWARD = ("0.005", "0", "0"), ("0", "0.016", "0.008")
"""In s: a sample (four make a batch), a forward in training, the rest of a training step."""


@dataclass(frozen=True)
class Ended:
    """What a training left behind, seen from outside."""

    told: dict[str, object]
    said: str


@dataclass(frozen=True)
class Observed(Ended):
    """And what profkit saw of it."""

    run: RunFindings
    steps: StepTable

    @property
    def trained(self) -> StepTable:
        return self.steps.select(self.steps.flags & Flag.EVALUATION == 0)

    @property
    def timed(self) -> StepTable:
        return self.steps.select(self.steps.flags & NOT_TIMED == 0)

    def share(self, stage: Stage) -> float:
        """Of the timed steps' time."""
        timed = self.timed
        return float(timed.stage_ns[:, STAGES.index(stage)].sum() / timed.step_ns.sum())


class Trainings:
    """Runs one framework's script, each time in a directory of its own."""

    def __init__(self, place: Path, script: str) -> None:
        self._place = place
        (place / "task.py").write_text(frameworks.TASK)
        (place / "train.py").write_text(script)
        self._alone: dict[tuple[str, ...], Ended] = {}

    def alone(self, *more: str) -> Ended:
        """Without profkit, and nothing slowed; once."""
        if more not in self._alone:
            self._alone[more] = self._run("alone", [], "0", "0", "0", *more)
        return self._alone[more]

    def observed(self, name: str, *arguments: str) -> Observed:
        out = self._place / f"{name}-run"
        run = ["-m", "profkit", "run", "--quiet", "--warmup", str(WARMUP), "--out", str(out)]
        ended = self._run(name, run, *arguments)
        (found,) = api.report(out).runs
        return Observed(ended.told, ended.said, found, read_run(out).steps)

    def _run(self, name: str, run: list[str], *arguments: str) -> Ended:
        directory = self._place / "-".join((name, *arguments[3:]))
        directory.mkdir()
        done = subprocess.run(
            [sys.executable, *run, str(self._place / "train.py"), *arguments],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, done.stderr
        (told,) = done.stdout.splitlines()
        return Ended(json.loads(told), done.stderr)


def make_trainings(factory: pytest.TempPathFactory, package: str, script: str) -> Trainings:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'profkit[integrations]'")
    return Trainings(factory.mktemp(package), script)


@pytest.fixture(scope="module")
def lightning(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return make_trainings(tmp_path_factory, "lightning", frameworks.LIGHTNING)


@pytest.fixture(scope="module")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return make_trainings(tmp_path_factory, "transformers", frameworks.TRANSFORMERS)


@pytest.fixture(scope="module")
def accelerate(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return make_trainings(tmp_path_factory, "accelerate", frameworks.ACCELERATE)


def check_as_ever(alone: Ended, observed: Observed) -> None:
    """The same weights and losses to the bit, and not a word more on stderr."""
    assert observed.told == alone.told
    assert observed.said == alone.said
    assert observed.run.manifest.ended == "completed"
    assert observed.run.gaps == () or all("sample" in gap for gap in observed.run.gaps)


def check_steps(observed: Observed, count: int) -> None:
    """So many steps that train; the last one of each epoch has no end that anybody told.

    Under Lightning the first one neither: the iterator of the sanity check lies around until then.
    """
    trained = observed.trained
    assert len(trained) == count
    assert (trained.stage_ns.sum(axis=1) == trained.step_ns).all()
    assert np.count_nonzero(trained.flags & Flag.PARTIAL) <= 1 + EPOCHS
    # Left out: those, the warm-up, what an evaluation every eight steps interrupts.
    whole = trained.select(trained.flags & (NOT_TIMED & ~Flag.DISTURBED) == 0)
    assert len(whole) >= count - WARMUP - (1 + EPOCHS) - count // 8
    for stage in (Stage.DATALOADER, Stage.FORWARD, Stage.BACKWARD):
        assert whole.marked[:, STAGES.index(stage)].all()
    # Some empty the gradients in other steps too.
    assert trained.marked[:, STAGES.index(Stage.OPTIMIZER)].sum() >= observed.told["updates"]


def check_slow_data(observed: Observed) -> None:
    assert observed.run.verdicts[0].kind == "input-bound"
    assert observed.share(Stage.DATALOADER) > 0.5
    # The model is slow only where it is evaluated.
    assert observed.share(Stage.FORWARD) < 0.25


def check_slow_forward(observed: Observed, body: bool = True) -> None:
    """A forward, and half as much beside it in the same function of the user's."""
    # The one worker fetches less ahead than a whole accumulation: a moderate wait may be true.
    high = {verdict.kind for verdict in observed.run.verdicts if verdict.severity == "high"}
    assert not high & {"input-bound", "optimizer-bound", "transfer-bound"}
    assert observed.share(Stage.FORWARD) > 0.4
    assert observed.share(Stage.OPTIMIZER) < 0.2
    assert observed.share(Stage.BACKWARD) < 0.25
    if body:
        assert 0.3 < observed.share(Stage.OTHER) / observed.share(Stage.FORWARD) < 1


def evaluated(observed: Observed) -> int:
    """Batches of the evaluations in the middle of training steps."""
    return sum(one.count for one in observed.run.manifest.apart if one.kind == "evaluation")


# `pytorch_lightning` is the same code under its older name.
def test_lightning_with_slow_data(lightning: Trainings) -> None:
    seen = lightning.observed("data", *SLOW_DATA)
    check_as_ever(lightning.alone(), seen)
    check_steps(seen, BATCHES * EPOCHS)
    check_slow_data(seen)


def test_lightning_with_a_slow_forward(lightning: Trainings) -> None:
    seen = lightning.observed("forward", *SLOW_FORWARD)
    check_as_ever(lightning.alone(), seen)
    check_steps(seen, BATCHES * EPOCHS)
    # All of it runs in a closure that the optimizer calls.
    check_slow_forward(seen)
    assert evaluated(seen) == EPOCHS * 3 * EVALUATION_BATCHES


def test_trainer_with_slow_data(transformers: Trainings) -> None:
    seen = transformers.observed("data", *SLOW_DATA, "1", "0")
    check_as_ever(transformers.alone("1", "0"), seen)
    check_steps(seen, BATCHES * EPOCHS)
    check_slow_data(seen)


def test_trainer_with_accumulation_and_a_worker(transformers: Trainings) -> None:
    seen = transformers.observed("forward", *SLOW_FORWARD, "4", "1")
    check_as_ever(transformers.alone("4", "1"), seen)
    # It fetches the batches of an update in a row: then a step is an update.
    assert seen.told["batches"] == 4 * BATCHES * EPOCHS
    assert seen.told["updates"] == BATCHES * EPOCHS
    check_steps(seen, BATCHES * EPOCHS)
    check_slow_forward(seen, body=False)
    # The loader tells its end before the last update: the third evaluation is in no step.
    assert evaluated(seen) == EPOCHS * 2 * EVALUATION_BATCHES


def test_accelerate_with_slow_data(accelerate: Trainings) -> None:
    seen = accelerate.observed("data", *SLOW_DATA, "0")
    check_as_ever(accelerate.alone("0"), seen)
    check_steps(seen, BATCHES * EPOCHS)
    check_slow_data(seen)


def test_accelerate_with_a_slow_forward_and_a_worker(accelerate: Trainings) -> None:
    seen = accelerate.observed("forward", *SLOW_FORWARD, "1")
    check_as_ever(accelerate.alone("0"), seen)
    check_steps(seen, BATCHES * EPOCHS)
    check_slow_forward(seen)
    assert evaluated(seen) == EPOCHS * 2 * EVALUATION_BATCHES
