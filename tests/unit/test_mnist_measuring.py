"""Which trainings are run, in which order, and that what ended is never run again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.mnist import measuring, seeding
from experiments.mnist.ladder import Rung
from experiments.mnist.ladders import rung_named
from experiments.mnist.measuring import LONG_S, Machine, Order, TrainingFailedError, measure
from experiments.mnist.results import Result, Results
from experiments.mnist.seeding import Engine, reach
from experiments.mnist.train import Epoch, Training

MACHINE = Machine("two cores", "torch 2", "0123abc", "cpu")
RUNGS = [rung_named("batch_128"), rung_named("tuned")]

Trained = list[tuple[str, int]]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trained]:
    """Has trainings take what it is told instead of being run; gives those that were asked for."""

    def prepare(seconds: float = 10.0, fails_at: int | None = None) -> Trained:
        asked: Trained = []

        def run(rung: Rung, seed: int, device: str, order: Order) -> Training:
            if len(asked) == fails_at:
                raise TrainingFailedError("no more")
            asked.append((rung.name, seed))
            return Training(1.0, 0.0, seconds, 10, (Epoch(seconds, 0.0, 0.99 + seed / 1000, 0.1),))

        monkeypatch.setattr(measuring, "trained", run)
        monkeypatch.setattr(seeding, "trained", run)
        return asked

    return prepare


def test_seeds_take_turns_over_the_rungs(trained: Callable[..., Trained], tmp_path: Path) -> None:
    asked = trained()
    found = measure(Order(RUNGS, 2), MACHINE, Results(tmp_path), print)
    assert asked == [("batch_128", 0), ("tuned", 0), ("batch_128", 1), ("tuned", 1)]
    assert [one.key.seed for one in found["tuned"]] == [0, 1]


def test_what_is_interrupted_goes_on_where_it_was(
    trained: Callable[..., Trained], tmp_path: Path
) -> None:
    trained(fails_at=3)
    with pytest.raises(TrainingFailedError):
        measure(Order(RUNGS, 2), MACHINE, Results(tmp_path), print)
    asked = trained()
    found = measure(Order(RUNGS, 2), MACHINE, Results(tmp_path), print)
    assert asked == [("tuned", 1)]
    assert [len(one) for one in found.values()] == [2, 2]


def test_a_long_training_has_one_seed(trained: Callable[..., Trained], tmp_path: Path) -> None:
    asked = trained(LONG_S + 1)
    found = measure(Order(RUNGS, 3), MACHINE, Results(tmp_path), print)
    assert asked == [("batch_128", 0), ("tuned", 0)]
    assert [len(one) for one in found.values()] == [1, 1]


def test_accuracies_take_over_what_was_timed_but_not_the_other_way_round(
    trained: Callable[..., Trained], tmp_path: Path
) -> None:
    trained()
    measure(Order(RUNGS, 1), MACHINE, Results(tmp_path), print)
    asked = trained()
    found = reach(Order(RUNGS, 2), Engine.LOCAL, MACHINE, Results(tmp_path), print)
    assert asked == [("batch_128", 1), ("tuned", 1)]
    assert [one.training.accuracy for one in found["tuned"]] == [0.99, 0.991]
    assert all(one.is_timed for one in found["tuned"])
    kept = Results(tmp_path / "farmed")
    for key, result in ((one.key, one) for one in found["tuned"]):
        kept.add(Result(key, result.commit, False, result.training))
    asked = trained()
    measure(Order(RUNGS[1:], 2), MACHINE, Results(tmp_path / "farmed"), print)
    assert asked == [("tuned", 0), ("tuned", 1)]


def test_a_failed_training_is_told_in_its_own_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    order = Order(RUNGS, 1, options=("--epochs", "none"))
    with pytest.raises(TrainingFailedError, match="tuned with seed 7 failed: see above"):
        measuring.trained(RUNGS[1], 7, "cpu", order)
    assert "invalid int value: 'none'" in capfd.readouterr().err
