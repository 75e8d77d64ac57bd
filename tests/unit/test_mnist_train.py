"""The one loop: when it stops, what its clock counts, and that a seed decides all of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from experiments.mnist import train as training
from experiments.mnist.feeding import Feed, Resident
from experiments.mnist.recipe import Curve, Method, Precision, Recipe, Source, changed
from experiments.mnist.train import Training, make_optimizer, make_schedule, train
from profkit.workloads.mnist_files import DataFiles

CPU = torch.device("cpu")
SMALL = changed(
    Recipe(),
    {
        "data.source": Source.RESIDENT,
        "data.batch_size": 32,
        "network.widths": (),
        "network.kernels": (),
        "network.pools": (),
        "network.hidden": (16,),
        "network.dropout": 0.0,
        "optimizer.method": Method.SGD,
        "optimizer.lr": 0.1,
        "stop.epochs": 3,
        "log_every": None,
    },
)
LOADING_S = 100.0


class Clock:
    """One second passes with each look at it."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1.0
        return self.now


Trainer = Callable[..., Training]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """Trains on images that tell their label by one bright row each."""
    labels = torch.arange(320) % 10
    images = torch.zeros(320, 1, 28, 28)
    images[torch.arange(320), 0, labels] = 1.0
    clock = Clock()
    looks = True

    def opened(files: object, data: Any, *, device: object, seed: int, is_validated: bool) -> Feed:
        clock.now += LOADING_S
        order = torch.Generator().manual_seed(seed)
        batches = Resident(images, labels, data.batch_size, order, drop_last=data.drop_last)
        return Feed(batches, Resident(images, labels, 320), 320, images if looks else None)

    monkeypatch.setattr(training, "open_feed", opened)
    monkeypatch.setattr(training, "time", clock)

    def run(recipe: Recipe, seed: int = 0, has_sample: bool = True, **options: Any) -> Training:
        nonlocal looks
        clock.now, looks = 0.0, has_sample
        files = DataFiles("MNIST", None, "made up")  # type: ignore[arg-type]  # not read
        return train(recipe, files, seed=seed, device=CPU, **options)[0]

    return run


def test_it_learns_and_a_seed_decides_all_of_it(trained: Trainer) -> None:
    first, again, other = trained(SMALL), trained(SMALL), trained(SMALL, seed=1)
    assert first == again
    assert [one.loss for one in first.epochs] != [one.loss for one in other.epochs]
    assert first.accuracy == 1.0
    assert first.steps == 10


def test_it_stops_after_the_epoch_that_reaches_the_accuracy(trained: Trainer) -> None:
    whole = trained(SMALL)
    assert len(whole.epochs) == 3
    reached = whole.epochs[1].accuracy
    assert whole.epochs[0].accuracy < reached
    stopped = trained(changed(SMALL, {"stop.accuracy": reached}))
    assert stopped.epochs == whole.epochs[:2]
    assert len(trained(SMALL, most_epochs=1).epochs) == 1


def test_its_clock_counts_loading_where_the_recipe_says_so(trained: Trainer) -> None:
    counted = trained(SMALL)
    apart = trained(changed(SMALL, {"clock.includes_loading": False}))
    assert counted.loading_s == apart.loading_s == LOADING_S + 1.0
    assert counted.seconds == apart.seconds + LOADING_S + 1.0
    # From what feeds it to the last test: a look before and after each epoch's two parts.
    assert apart.seconds == 3 * 3 + 1


def test_a_loss_that_is_no_number_is_none(trained: Trainer) -> None:
    with_sgd = changed(SMALL, {"optimizer.lr": 1e20})
    assert [one.loss for one in trained(with_sgd).epochs] == [None] * 3
    assert all(one.loss is not None for one in trained(SMALL).epochs)


def test_it_stops_in_the_middle_of_an_epoch_and_the_rate_falls_until_there(
    trained: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    make = training.make_schedule
    monkeypatch.setattr(
        training,
        "make_schedule",
        lambda recipe, optimizer, steps: (asked.append(steps), make(recipe, optimizer, steps))[1],
    )
    stopped = trained(changed(SMALL, {"stop.steps": 14, "log_every": 1}), log=(told := []).append)
    assert (len(stopped.epochs), asked, len(told)) == (2, [14], 14)
    assert stopped.epochs[0] == trained(SMALL).epochs[0]
    part = trained(changed(SMALL, {"stop.steps": 4}))
    assert [one.steps for one in part.epochs] == [4]
    assert [one.steps for one in stopped.epochs] == [part.steps, 4] == [10, 4]


def test_a_warm_up_is_beside_the_clock_and_changes_nothing(trained: Trainer) -> None:
    cold, warm = trained(SMALL), trained(changed(SMALL, {"clock.is_warm": True}))
    assert cold.warming_s == 0
    assert warm.warming_s > 0
    assert warm.seconds == cold.seconds
    assert warm.epochs == cold.epochs


def test_losses_are_told_as_often_as_the_recipe_says(trained: Trainer) -> None:
    told: list[str] = []
    trained(changed(SMALL, {"log_every": 4}), log=told.append, most_epochs=1)
    assert [one.partition(":")[0] for one in told] == [
        "batch 0",
        "batch 4",
        "batch 8",
    ]


@pytest.mark.parametrize("method", Method)
def test_each_method_learns(trained: Trainer, method: Method) -> None:
    lr = {Method.ADADELTA: 1.0, Method.ADAM: 0.01, Method.RMSPROP: 0.01, Method.SGD: 0.4}[method]
    recipe = SMALL if method is Method.SGD else changed(SMALL, {"optimizer.method": method})
    recipe = changed(recipe, {"optimizer.lr": lr})
    assert trained(recipe).accuracy > 0.9


def test_bf16_and_channels_last_reach_the_loop(trained: Trainer) -> None:
    found = trained(
        changed(SMALL, {"compute.precision": Precision.BF16, "compute.channels_last": True})
    )
    assert found.accuracy > 0.9
    assert found.epochs != trained(SMALL).epochs


def test_an_update_is_no_longer_than_its_clipped_gradient(trained: Trainer) -> None:
    free = trained(SMALL)
    assert trained(changed(SMALL, {"optimizer.clip_norm": 1e9})).epochs == free.epochs
    still = trained(changed(SMALL, {"optimizer.clip_norm": 1e-9}))
    assert still.epochs[0].accuracy == still.epochs[-1].accuracy < free.accuracy


def test_only_data_that_can_be_looked_at_before_is_whitened(trained: Trainer) -> None:
    one_convolution = {
        "network.widths": (8,),
        "network.kernels": (3,),
        "network.pools": (True,),
        "network.map_dropout": 0.0,
    }
    plain = changed(SMALL, one_convolution)
    whitened = changed(plain, {"network.is_whitened": True})
    assert trained(whitened).epochs != trained(plain).epochs
    with pytest.raises(ValueError, match="only data in memory can be looked at before"):
        trained(whitened, has_sample=False)


def rates(curve: Curve, epochs: int, steps: int) -> list[float]:
    model = torch.nn.Linear(1, 1)
    optimizer = make_optimizer(SMALL.optimizer, model)
    recipe = (
        SMALL.schedule
        if curve is SMALL.schedule.curve
        else changed(SMALL, {"schedule.curve": curve}).schedule
    )
    schedule, is_stepped_by_batch = make_schedule(recipe, optimizer, epochs * steps)
    found = []
    for _ in range(epochs):
        for _ in range(steps):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if is_stepped_by_batch:
                schedule.step()
        if not is_stepped_by_batch:
            schedule.step()
    return found


def test_rates_follow_the_curve() -> None:
    assert rates(Curve.CONSTANT, 2, 2) == [0.1] * 4
    assert rates(Curve.EPOCH_DECAY, 2, 2) == pytest.approx([0.1, 0.1, 0.07, 0.07])
    falling = rates(Curve.COSINE, 2, 50)
    assert [falling[0], falling[50]] == pytest.approx([0.1, 0.05])
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] < 0.001
    cycle = rates(Curve.ONE_CYCLE, 2, 50)
    assert max(cycle) == pytest.approx(0.1)
    assert cycle[0] == pytest.approx(0.1 / 25)
    assert cycle[-1] < 0.002
    assert cycle.index(max(cycle)) == pytest.approx(30, abs=1)
