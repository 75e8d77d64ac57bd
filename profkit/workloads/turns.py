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
        workers: loader workers; they go on while the others run, until their queue is full.
        prefetch: batches that each of them makes ahead.
    """

    program: Program
    clock: StageClock
    workers: int = 0
    prefetch: int = 0

    @property
    def stale(self) -> int:
        """Batches at a block's start that were made during another one's block."""
        return self.workers * self.prefetch

    @property
    def least_epoch(self) -> int:
        """Batches that an epoch must have for a block to have an active step."""
        return self.stale + self.workers + 1


def take_turns(
    variants: Sequence[Variant],
    *,
    steps: int,
    block_steps: int,
    seed: int,
    advance: Callable[[int], None],
) -> None:
    """Run all variants for at least `steps` active steps each.

    The first block of each is warm-up. In a round each runs one block, so that block k of one
    has its pair in block k of another; the order within a round is random, and the next round
    reverses it (ABBA).

    A block of a variant with workers begins by taking the stale batches without training on
    them. Were they trained on, the workers would win a lead that the block's steps then use up,
    and its data wait would come out too small. With an empty queue the first batch is late, so
    one step a worker is warm-up. From then on the queue is as it is in an uninterrupted loop; what
    is left of the interruption made steps with two workers 2 to 6 % longer here.

    Args:
        variants: programs; an epoch of each has at least `least_epoch` batches.
        steps: active steps a variant.
        block_steps: active steps a block; fewer at an epoch's end.
        seed: of the order; the global random streams are left alone.
        advance: told how many active steps every variant has by now.
    """
    shuffle = random.Random(seed).shuffle
    order = list(range(len(variants)))
    active = [0 for _ in variants]
    for variant in variants:
        _run_block(variant, block_steps, warmup=block_steps)
    turn = 0
    while min(active) < steps:
        if turn % 2 == 0:
            shuffle(order)
        else:
            order.reverse()
        turn += 1
        for index in order:
            variant = variants[index]
            warmup = variant.workers
            done = _run_block(variant, block_steps + warmup, warmup=warmup)
            active[index] += max(0, done - warmup)
        advance(min(active))
    for variant in variants:
        variant.program.stop_feeding()


def _run_block(variant: Variant, count: int, *, warmup: int) -> int:
    program = variant.program
    if variant.stale:
        if program.left_in_epoch < variant.least_epoch:
            program.begin_epoch()
        program.skip(variant.stale)
    done = program.run(variant.clock, count, warmup=warmup)
    variant.clock.flush()  # the others may take long, and a kill may come meanwhile
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
