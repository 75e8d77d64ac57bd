"""One loop, that trains by any recipe, and its clock."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from profkit.probe.process_fixes import keep_freed_memory
from profkit.workloads.mnist_files import DataFiles

from .feeding import Feed, open_feed
from .networks import DigitNet
from .recipe import Curve, Method, Precision, Recipe, Schedule
from .recipe import Optimizer as OptimizerRecipe

ADADELTA_RHO = 0.9
WARM_UP_STEPS = 3
FUSED = (Method.ADAM, Method.SGD)
"""Methods whose update torch has as one kernel on a CPU too."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the training images, and the test after it.

    Attributes:
        train_s, test_s: what each took.
        accuracy: on the test images, 0 to 1.
        loss: of the last batch; None where it is no finite number: the training diverged.
        steps: batches that it trained on; fewer than there are where the recipe ends early.
    """

    train_s: float
    test_s: float
    accuracy: float
    loss: float | None
    steps: int


@dataclass(frozen=True, slots=True)
class Training:
    """What a training took and reached.

    Attributes:
        loading_s: from the files to what feeds it.
        warming_s: what libraries were warmed up for beforehand; 0 where they were not.
        seconds: on the recipe's clock, to the last test's accuracy.
        steps: batches of a whole epoch.
        epochs: in order.
    """

    loading_s: float
    warming_s: float
    seconds: float
    steps: int
    epochs: tuple[Epoch, ...]

    @property
    def accuracy(self) -> float:
        """That of the last epoch."""
        return self.epochs[-1].accuracy


def train(
    recipe: Recipe,
    files: DataFiles,
    *,
    seed: int,
    device: torch.device,
    most_epochs: int | None = None,
    is_validated: bool = False,
    log: Callable[[str], None] = print,
) -> tuple[Training, DigitNet]:
    """Train by a recipe until it says stop.

    Args:
        recipe: what to do.
        files: MNIST.
        seed: of the first weights, the order and dropout.
        device: to train on.
        most_epochs: whatever the recipe says, no more than these.
        is_validated: whether accuracy is that on the last 10,000 training images, which are not
            trained on then.
        log: told the losses that the recipe prints.

    Raises:
        ValueError: parts of the recipe do not go together.
    """
    if recipe.compute.keeps_freed_memory:
        keep_freed_memory()
    warming_s = _warm_up(recipe, device) if recipe.clock.is_warm else 0.0
    began = time.perf_counter()
    feed = open_feed(files, recipe.data, device=device, seed=seed, is_validated=is_validated)
    wait_for(device)
    loaded = time.perf_counter()
    torch.manual_seed(seed)
    model = _made(recipe, feed, device)
    optimizer = make_optimizer(recipe.optimizer, model)
    epochs, steps = recipe.stop.epochs, len(feed.train)
    most_steps = epochs * steps
    if recipe.stop.steps is not None:
        most_steps = min(most_steps, recipe.stop.steps)
        epochs = -(-most_steps // steps)
    schedule, is_stepped_by_batch = make_schedule(recipe.schedule, optimizer, most_steps)
    found: list[Epoch] = []
    for row in range(epochs if most_epochs is None else min(epochs, most_epochs)):
        counted = min(steps, most_steps - row * steps)
        epoch_began = time.perf_counter()
        loss = _train_epoch(
            recipe,
            model,
            feed.train if counted == steps else islice(feed.train, counted),
            optimizer,
            schedule if is_stepped_by_batch else None,
            log,
        )
        if not is_stepped_by_batch:
            schedule.step()
        wait_for(device)
        trained = time.perf_counter()
        accuracy = accuracy_of(recipe, model, feed)
        tested = time.perf_counter()
        last = float(loss)
        found.append(
            Epoch(
                trained - epoch_began,
                tested - trained,
                accuracy,
                last if math.isfinite(last) else None,
                counted,
            )
        )
        if recipe.stop.accuracy is not None and accuracy >= recipe.stop.accuracy:
            break
    ended = time.perf_counter()
    from_when = began if recipe.clock.includes_loading else loaded
    took = Training(loaded - began, warming_s, ended - from_when, steps, tuple(found))
    return took, model


def _made(recipe: Recipe, feed: Feed, device: torch.device) -> DigitNet:
    model = DigitNet(recipe.network, recipe.data.side).to(device)
    if recipe.network.is_whitened:
        if feed.sample is None:
            raise ValueError("network.is_whitened: only data in memory can be looked at before")
        model.whiten(feed.sample.to(device))
    if recipe.compute.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _warm_up(recipe: Recipe, device: torch.device) -> float:
    """Compute some steps and a test of such a training, for nothing.

    Returns:
        What it took, in s.
    """
    began = time.perf_counter()
    batches = [
        (
            torch.zeros(size, 1, recipe.data.side, recipe.data.side, device=device),
            torch.zeros(size, dtype=torch.int64, device=device),
        )
        for size in (recipe.data.batch_size, recipe.data.test_batch_size)
    ]
    trained, tested = batches
    feed = Feed([trained] * WARM_UP_STEPS, [tested], recipe.data.test_batch_size, trained[0])
    model = _made(recipe, feed, device)
    optimizer = make_optimizer(recipe.optimizer, model)
    _train_epoch(recipe, model, feed.train, optimizer, None, log=lambda _: None)
    accuracy_of(recipe, model, feed)
    wait_for(device)
    return time.perf_counter() - began


def _train_epoch(
    recipe: Recipe,
    model: nn.Module,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
    log: Callable[[str], None],
) -> Tensor:
    model.train()
    device = next(model.parameters()).device
    loss = torch.tensor(math.nan)
    for row, (images, labels) in enumerate(batches):
        images, labels = _placed(recipe, images, labels, device)
        optimizer.zero_grad()
        with _autocast(recipe, device):
            scores = model(images)
            loss = F.cross_entropy(scores, labels, label_smoothing=recipe.label_smoothing)
        loss.backward()
        if recipe.optimizer.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
        optimizer.step()
        if schedule is not None:
            schedule.step()
        if recipe.log_every is not None and row % recipe.log_every == 0:
            log(f"batch {row}: loss {loss.item():.6f}")
    return loss.detach()


def accuracy_of(recipe: Recipe, model: nn.Module, feed: Feed) -> float:
    """Share of the test images that the model tells, 0 to 1."""
    model.eval()
    device = next(model.parameters()).device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with torch.no_grad(), _autocast(recipe, device):
        for images, labels in feed.test:
            images, labels = _placed(recipe, images, labels, device)
            right += (model(images).argmax(1) == labels).sum()
    return int(right) / feed.test_count


def _placed(
    recipe: Recipe, images: Tensor, labels: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    images = images.to(device, non_blocking=True)
    if recipe.compute.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, labels.to(device, non_blocking=True)


def _autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    is_on = recipe.compute.precision is Precision.BF16
    return torch.autocast(device.type, torch.bfloat16, enabled=is_on)


def make_optimizer(recipe: OptimizerRecipe, model: nn.Module) -> torch.optim.Optimizer:
    """What updates the model's parameters.

    Raises:
        ValueError: the method has no fused kernel.
    """
    if recipe.is_fused and recipe.method not in FUSED:
        raise ValueError(f"optimizer.is_fused: {recipe.method.value} has no fused kernel")
    parameters = model.parameters()
    match recipe.method:
        case Method.ADADELTA:
            return torch.optim.Adadelta(
                parameters, lr=recipe.lr, rho=ADADELTA_RHO, weight_decay=recipe.weight_decay
            )
        case Method.ADAM:
            return torch.optim.Adam(
                parameters,
                lr=recipe.lr,
                betas=recipe.betas,
                weight_decay=recipe.weight_decay,
                fused=recipe.is_fused or None,
            )
        case Method.RMSPROP:
            return torch.optim.RMSprop(
                parameters,
                lr=recipe.lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
            )
        case Method.SGD:
            return torch.optim.SGD(
                parameters,
                lr=recipe.lr,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov,
                weight_decay=recipe.weight_decay,
                fused=recipe.is_fused or None,
            )


def make_schedule(
    recipe: Schedule, optimizer: torch.optim.Optimizer, steps: int
) -> tuple[torch.optim.lr_scheduler.LRScheduler, bool]:
    """What changes the learning rate, and whether it does so after each batch.

    Args:
        recipe: how.
        optimizer: whose learning rate; it is the peak of a cycle.
        steps: of the whole training.
    """
    schedules = torch.optim.lr_scheduler
    match recipe.curve:
        case Curve.CONSTANT:
            return schedules.ConstantLR(optimizer, factor=1.0), False
        case Curve.EPOCH_DECAY:
            return schedules.StepLR(optimizer, step_size=1, gamma=recipe.gamma), False
        case Curve.COSINE:
            return schedules.CosineAnnealingLR(optimizer, T_max=steps), True
        case Curve.ONE_CYCLE:
            peak = optimizer.param_groups[0]["lr"]
            return (
                schedules.OneCycleLR(
                    optimizer,
                    peak,
                    total_steps=steps,
                    pct_start=recipe.rising,
                    cycle_momentum=False,
                ),
                True,
            )


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was given: what is still queued is part of the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
