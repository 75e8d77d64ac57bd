"""Measures a short training loop in this process, for tests and notebooks."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import terms
from .analyze.breakdown import active_rows, blocks
from .analyze.quantity import Measurement
from .analyze.statistics import warm_up_length
from .errors import InputError
from .loops import Bench, Loop, bench
from .render.units import plural
from .schema.steps import Flag, StepTable


def measure(
    step: Callable[..., object],
    loader: Iterable[Any],
    *,
    steps: int | None = None,
    warmup: int | None = None,
    timeout_s: float | None = None,
    name: str | None = None,
) -> Measurement:
    """The stages of `step(batch)` over the batches of a loader.

    Where torch is imported and the step marks nothing itself, its stages are told from what it
    does, by the hooks that `profkit run` uses; they are gone when this returns. Warm-up that is
    left after `warmup` steps is detected, left out and made up for.

    Args:
        step: trains on one batch. With a second required parameter it is given the clock,
            whose `stage("forward")` it can use in `with` statements; what it leaves unmarked
            counts as `other`.
        loader: batches; begun anew as often as needed.
        steps: how many to time; 100 unless given (or `--profkit-steps`, under pytest).
        warmup: how many to do before; likewise 10.
        timeout_s: when to stop with fewer; likewise 60.
        name: what messages call it; the step's own name unless given.

    Raises:
        InputError: a count that is not positive, a loader without enough batches, or a process
            that is observed or measured already.
    """
    __tracebackhide__ = True
    now = terms.current()
    steps = now.steps if steps is None else steps
    warmup = now.warmup if warmup is None else warmup
    timeout_s = now.timeout_s if timeout_s is None else timeout_s
    if not (terms.is_count(steps) and terms.is_count(warmup, 0) and terms.is_positive(timeout_s)):
        raise InputError(
            f"steps={steps!r}, warmup={warmup!r}, timeout_s={timeout_s!r}: steps must be a whole "
            "number from 1, warmup one from 0, timeout_s a positive number of seconds"
        )
    loop = Loop(step, loader)
    with bench(loop) as place:
        table = _first_table(loop, place, steps, warmup, timeout_s)
    found = Measurement(name or _name(step), table, loop, place.gaps)
    if not found.steps:
        raise InputError(
            f"{plural(len(table), 'step')} in {timeout_s} s, all of them warm-up: raise timeout_s "
            "or lower warmup"
        )
    now.note(found)
    return found


def _first_table(loop: Loop, place: Bench, steps: int, warmup: int, timeout_s: float) -> StepTable:
    __tracebackhide__ = True
    deadline = place.deadline_ns(timeout_s)
    table = loop.run(place, steps + warmup, deadline, warmup=warmup)
    if loop.spent and len(table) < steps + warmup:
        raise InputError(
            f"the loader gave {len(table)} of {steps + warmup} batches, and none when it was begun "
            "anew: give one that can be iterated again for each epoch"
        )
    cold = _drop_warm_up(table)
    if cold and not place.is_over(deadline):
        table = StepTable.concatenate([table, loop.run(place, cold, deadline)])
        table.flags[1:] &= ~int(Flag.BLOCK_START)
    return table


def _drop_warm_up(table: StepTable) -> int:
    """Flag what is warm-up still; returns how many steps that are."""
    cut = blocks(table, active_rows(table, drained=True))
    step_ns = table.step_ns
    means = np.array([step_ns[block].mean() for block in cut], np.float64)
    cold = [row for block in cut[: warm_up_length(means)] for row in block.tolist()]
    table.flags[cold] |= int(Flag.WARMUP)
    return len(cold)


def _name(step: object) -> str:
    name = getattr(step, "__qualname__", None) or type(step).__name__
    last = name.rpartition(".")[2]
    return "measured" if last == "<lambda>" else str(last)
