"""Which trainings are run, in which order, and that what ended is never run again."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from experiments.mnist import measuring, seeding
from experiments.mnist.bench import Bench
from experiments.mnist.ladders import rung_named
from experiments.mnist.machine import Machine, machine_of
from experiments.mnist.measuring import LONG_S, TrainingFailedError, measure
from experiments.mnist.results import Results
from experiments.mnist.seeding import Engine, reach
from experiments.mnist.task import Task
from experiments.mnist.train import Epoch, Training

MACHINE = Machine("two cores", "torch 2", "0123abc", "cpu")
RUNGS = [rung_named("batch_128"), rung_named("one_cycle")]

Trained = list[Task]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    results = Results(tmp_path)
    yield Bench(MACHINE, (), results)
    results.close()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trained]:
    """Has trainings take what it is told instead of being run; gives those that were asked for."""

    def prepare(seconds: float = 10.0, fails_at: int | None = None) -> Trained:
        asked: Trained = []

        def run(task: Task, device: str, options: Sequence[str], held: Sequence[int]) -> Training:
            if len(asked) == fails_at:
                raise TrainingFailedError("no more")
            asked.append(task)
            epoch = Epoch(seconds, 0.0, 0.99 + task.seed / 1000, 0.1, 10)
            return Training(1.0, 0.0, seconds, 10, (epoch,))

        monkeypatch.setattr(measuring, "trained", run)
        monkeypatch.setattr(seeding, "trained", run)
        return asked

    return prepare


def test_every_rung_has_its_turn_in_each_round(
    trained: Callable[..., Trained], bench: Bench
) -> None:
    asked = trained()
    whole, alone = measure(RUNGS, 6, RUNGS[1:], "ladder", bench)
    assert [one.seed for one in asked] == [seed for seed in range(6) for _ in range(3)]
    rounds = [asked[row : row + 3] for row in range(0, 18, 3)]
    for one in rounds:
        assert {(task.rung.name, task.is_isolated) for task in one} == {
            ("batch_128", False),
            ("one_cycle", False),
            ("one_cycle", True),
        }
    orders = [[(task.rung.name, task.is_isolated) for task in one] for one in rounds]
    assert any(one != orders[0] for one in orders)
    assert [one.key.seed for one in whole["one_cycle"]] == list(range(6))
    assert [len(one) for one in (whole["batch_128"], alone["one_cycle"])] == [6, 6]
    assert alone.keys() == {"one_cycle"}


def test_what_is_interrupted_goes_on_where_it_was(
    trained: Callable[..., Trained], bench: Bench
) -> None:
    before = trained(fails_at=3)
    with pytest.raises(TrainingFailedError):
        measure(RUNGS, 2, [], "ladder", bench)
    asked = trained()
    found, _ = measure(RUNGS, 2, [], "ladder", bench)
    assert len(asked) == 1
    assert {(one.rung.name, one.seed) for one in before + asked} == {
        (rung.name, seed) for rung in RUNGS for seed in range(2)
    }
    assert [len(one) for one in found.values()] == [2, 2]


def test_what_is_told_is_kept_already(
    trained: Callable[..., Trained],
    bench: Bench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept_when_told: list[int] = []

    def tell(what: str) -> None:
        kept_when_told.append(len((tmp_path / "results.jsonl").read_text().splitlines()))

    monkeypatch.setattr(measuring, "tell", tell)
    monkeypatch.setattr(seeding, "tell", tell)
    trained()
    measure(RUNGS, 1, [], "ladder", bench)
    reach(RUNGS, 2, Engine.LOCAL, bench)
    assert kept_when_told == [1, 2, 3, 4]


def test_another_series_is_timed_anew(trained: Callable[..., Trained], bench: Bench) -> None:
    trained()
    measure(RUNGS, 1, [], "ladder", bench)
    asked = trained()
    measure(RUNGS, 1, [], "beyond", bench)
    assert len(asked) == 2


def test_a_long_training_has_one_seed(trained: Callable[..., Trained], bench: Bench) -> None:
    asked = trained(LONG_S + 1)
    whole, _ = measure(RUNGS, 3, [], "ladder", bench)
    assert [task.seed for task in asked] == [0, 0]
    assert [len(one) for one in whole.values()] == [1, 1]


def test_accuracies_take_over_what_was_timed_but_not_the_other_way_round(
    trained: Callable[..., Trained], bench: Bench
) -> None:
    trained()
    measure(RUNGS, 1, [], "ladder", bench)
    asked = trained()
    found = reach(RUNGS, 2, Engine.LOCAL, bench)
    assert [(task.rung.name, task.seed) for task in asked] == [("batch_128", 1), ("one_cycle", 1)]
    assert [one.training.accuracy for one in found["one_cycle"]] == [0.99, 0.991]
    asked = trained()
    measure(RUNGS, 2, [], "ladder", bench)
    assert {task.seed for task in asked} == {1}


def test_a_failed_training_is_told_by_its_last_words() -> None:
    task = Task(rung_named("tuned"), 7)
    words = r"tuned, seed 7 failed: .*invalid int value: 'none'; what ended is kept"
    with pytest.raises(TrainingFailedError, match=words):
        measuring.trained(task, "cpu", ("--epochs", "none"))


def test_a_machine_is_what_decides_a_time() -> None:
    described = {"hardware": "two cores", "versions": "profkit 0.1, commit 01ab, torch 2.13"}
    machine = machine_of(described, "cpu")
    assert machine == Machine("two cores", "torch 2.13", "01ab", "cpu")
    assert machine.place == "two cores; cpu"
    assert machine.short_name == "cpu"
