"""Measures a fix against the program as it is: their instances take turns, block by block."""

import math
import random
import time
from collections.abc import Callable, Sequence

from ..analyze.gate import speedup, sum_up, without_warm_up
from ..analyze.statistics import LogRatio
from ..schema.gate import Round
from ..schema.paced import Block
from .duel import block_steps
from .instance import Instance

LEAST_ROUNDS = 6
"""For each pair of instances, before a look."""
CLEAR_LOG = 0.02
"""Half the width of an interval, as a logarithm, that is fine enough to stop."""
WORTH_LOG = 0.02
"""What a change must win, as a logarithm, to be worth it."""


def measure(
    base: Sequence[Instance],
    new: Sequence[Instance],
    deadline: float,
    seed: int,
    show: Callable[[str], None],
) -> tuple[LogRatio | None, list[Round]]:
    """How many times faster the new instances are.

    Args:
        base, new: as many of each; warm, standing still.
        deadline: by `time.monotonic`.
        seed: of the order.
        show: told what happens.

    Returns:
        The ratio of the base's step over the new one's; None where there was no time for one; and
        the rounds that it rests on.

    Raises:
        GoneError: a program ended by itself.
        LateError: the time is up in the middle of a block.
    """
    chance = random.Random(seed)
    workers = [_workers(one) for one in (*base, *new)]
    taken = sorted(one.facts.step_ns for one in (*base, *new) if one.facts is not None)
    steps = block_steps(taken[len(taken) // 2], max(workers))
    for one in (*base, *new):
        one.run_block(steps, deadline)  # its first block is warm-up, too
    rounds: list[Round] = []
    began = time.monotonic()
    look = LEAST_ROUNDS * len(base)
    while time.monotonic() < deadline:
        pair = len(rounds) % len(base)
        rows = [(base[pair], workers[pair]), (new[pair], workers[len(base) + pair])]
        order = [0, 1]
        chance.shuffle(order)
        found: list[list[Block]] = [[], []]
        for side in (*order, *reversed(order)):
            instance, count = rows[side]
            found[side].append(Block(*instance.run_block(steps, deadline), count))
        was, now = sum_up(found[0], found[1]), sum_up(found[1], found[0])
        rounds.append(Round(pair, time.monotonic() - began, was, now))
        if len(rounds) >= look:
            show(f"{len(rounds)} rounds")
            look = len(rounds) + max(4, len(rounds) // 3)
            ratio = speedup(without_warm_up(rounds))
            if ratio is not None and is_clear(ratio):
                break
    return speedup(without_warm_up(rounds)), rounds


def is_clear(ratio: LogRatio) -> bool:
    """Whether more measuring would change nothing about what to do."""
    estimate = ratio.estimate
    if estimate.low is None or estimate.high is None:
        return False
    reach = ratio.center - math.log(estimate.low)
    if reach <= CLEAR_LOG:
        return True
    # Far beyond what decides, a rough number will do.
    return reach <= 0.1 * abs(ratio.center) or ratio.center + reach < -WORTH_LOG


def _workers(instance: Instance) -> int:
    loader = None if instance.facts is None else instance.facts.loader
    return 0 if loader is None else loader.num_workers or 0
