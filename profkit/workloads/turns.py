"""Several programs that take turns, block by block, so that drift meets all of them alike."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from ..probe.marks import StageClock
from .program import Program

_IDLE_SHARE = 0.05
_LOOK_S = 0.05
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One program among those that take turns.

    Attributes:
        program: what runs.
        clock: where its steps go.
        stale: batches at a block's start that were made during another one's block: loader
            workers × prefetch.
    """

    program: Program
    clock: StageClock
    stale: int = 0


def take_turns(
    variants: Sequence[Variant],
    *,
    steps: int,
    block_steps: int,
    seed: int,
    advance: Callable[[int], None],
) -> None:
    """Run all variants for at least `steps` active steps each.

    The first block of each is warm-up. All do the same number of steps in a round, so that
    block k of one has its pair in block k of another; within a round the order is random,
    and the next round reverses it (ABBA).

    Args:
        variants: share data and batch size, so that their epochs end together.
        steps: active steps a variant.
        block_steps: active steps a block; fewer at an epoch's end.
        seed: of the order; the global random streams are left alone.
        advance: told how many active steps the round has brought.
    """
    stale = max(variant.stale for variant in variants)
    order = list(variants)
    shuffle = random.Random(seed).shuffle
    for variant in order:
        _run_block(variant, block_steps, warmup=block_steps)
    active, turn = 0, 0
    while active < steps:
        if turn % 2 == 0:
            shuffle(order)
        else:
            order.reverse()
        turn += 1
        done = 0
        for variant in order:
            # Workers start anew with an epoch: its first batches are warm-up like stale ones.
            done = _run_block(variant, block_steps + stale, warmup=variant.stale)
        gained = max(0, done - stale)
        active += gained
        advance(min(gained, steps - active + gained))
    for variant in variants:
        variant.program.stop_feeding()
        variant.clock.flush()


def _run_block(variant: Variant, count: int, *, warmup: int) -> int:
    done = variant.program.run(variant.clock, count, warmup=warmup)
    if variant.stale:
        wait_for_idle_workers()
    return done


def wait_for_idle_workers() -> None:
    """Wait until this process' children no longer compute: their queue is full.

    Otherwise they would fill it during the next variant's block, and slow it down.
    """
    deadline = time.monotonic() + _PATIENCE_S
    children = psutil.Process().children(recursive=True)
    before = _cpu_seconds(children)
    while time.monotonic() < deadline:
        time.sleep(_LOOK_S)
        after = _cpu_seconds(children)
        if after - before <= _IDLE_SHARE * _LOOK_S:
            return
        before = after


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.Error:  # it has ended in the meantime
            continue
        total += times.user + times.system
    return total
