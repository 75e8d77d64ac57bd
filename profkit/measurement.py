"""Measures a short training loop in this process, for tests and notebooks."""

import inspect
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from .analyze.breakdown import break_down
from .analyze.quantity import Measurement
from .errors import InputError
from .probe.marks import StageClock
from .schema.steps import StepTable


def measure(
    step: Callable[..., object],
    loader: Iterable[Any],
    *,
    steps: int = 100,
    warmup: int = 10,
    timeout_s: float = 60.0,
    name: str = "measured",
) -> Measurement:
    """The stages of `step(batch)` over the batches of a loader.

    Args:
        step: trains on one batch. With a second required parameter it is given the clock,
            whose `stage("forward")` it can use in `with` statements; what it leaves unmarked
            counts as `other`.
        loader: batches; begun anew as often as needed.
        steps: how many to time.
        warmup: how many to do before.
        timeout_s: when to stop with fewer.
        name: what messages call it.

    Raises:
        InputError: a count that is not positive, or a loader without a batch.
    """
    if steps < 1 or warmup < 0 or timeout_s <= 0:
        raise InputError(
            f"steps={steps}, warmup={warmup}, timeout_s={timeout_s}: steps and timeout_s must "
            "be positive, warmup not negative"
        )
    gathered: list[StepTable] = []
    clock = StageClock(lambda table, marks: gathered.append(table), warmup=warmup)
    train = step
    if _wants_clock(step):

        def train(batch: Any) -> object:
            return step(batch, clock)

    deadline = time.monotonic() + timeout_s
    total = steps + warmup
    while clock.count < total and time.monotonic() < deadline:
        before = clock.count
        for batch in clock.steps(islice(loader, total - before)):
            train(batch)
            if time.monotonic() > deadline:
                break
        if clock.count == before:
            raise InputError(
                "the loader gave no batch: give one that can be iterated again for each epoch"
            )
    clock.flush()
    breakdown = break_down(StepTable.concatenate(gathered))
    if breakdown.steps is None:
        raise InputError(
            f"{clock.count} steps in {timeout_s} s, all of them warm-up: raise timeout_s or "
            "lower warmup"
        )
    return Measurement(name, breakdown)


def _wants_clock(step: Callable[..., object]) -> bool:
    try:
        parameters = inspect.signature(step).parameters.values()
    except (TypeError, ValueError):  # a callable without a signature takes the batch alone
        return False
    required = [
        one
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return len(required) >= 2
