"""Thousands of checks, drawn from the rounds that long live ones of identical code recorded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from profkit.analyze.gate import judge, without_warm_up
from profkit.schema.budget import Budget
from profkit.schema.decision import Outcome
from profkit.schema.gate import BlockPair, Round
from profkit.verify.duel import LOOKS

PAIRS = 3


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of so many checks came out how."""

    checks: int
    outcomes: dict[Outcome, int]


def resample(
    programs: Sequence[Sequence[Sequence[Round]]],
    ratio: float,
    budget: Budget,
    checks: int,
    seed: int,
) -> Tally:
    """Checks of two versions whose true ratio is known.

    Each draws a program and three pairs of its instances, turns some of them round (they ran the
    same code), begins each at a random round, and makes the new version's times longer by the
    ratio.

    Args:
        programs: for each the rounds of each pair of instances, in order; three pairs or more.
        ratio: new over base.
        budget: what they are held against.
        checks: how many.
        seed: of the draws.
    """
    draw = np.random.default_rng(seed)
    outcomes = dict.fromkeys(Outcome, 0)
    for _ in range(checks):
        pairs = programs[draw.integers(len(programs))]
        drawn = [
            _made_longer(_drawn(pairs[row], draw), ratio, place)
            for place, row in enumerate(draw.choice(len(pairs), PAIRS, replace=False))
        ]
        outcomes[_check(drawn, budget)] += 1
    return Tally(checks, outcomes)


def _check(pairs: Sequence[Sequence[Round]], budget: Budget) -> Outcome:
    outcome = Outcome.INCONCLUSIVE
    for share in LOOKS:
        seen = [one for pair in pairs for one in pair[: max(1, round(share * len(pair)))]]
        kept = without_warm_up(sorted(seen, key=lambda one: one.ended_s))
        outcome = judge(kept, budget, len(LOOKS)).outcome
        if outcome is not Outcome.INCONCLUSIVE:
            break
    return outcome


def _drawn(rounds: Sequence[Round], draw: np.random.Generator) -> list[Round]:
    start = int(draw.integers(len(rounds)))
    turned = bool(draw.integers(2))
    found = []
    for number, one in enumerate((*rounds[start:], *rounds[:start])):
        assert one.base is not None  # recorded with two versions
        base, new = (one.new, one.base) if turned else (one.base, one.new)
        found.append(Round(one.pair, float(number), base, new))
    return found


def _made_longer(rounds: Sequence[Round], ratio: float, pair: int) -> list[Round]:
    return [replace(one, pair=pair, new=_longer(one.new, ratio)) for one in rounds]


def _longer(blocks: BlockPair, ratio: float) -> BlockPair:
    first, second = (log + math.log(ratio) for log in blocks.log_ns)
    return replace(blocks, log_ns=(first, second), mean_ns=blocks.mean_ns * ratio)
