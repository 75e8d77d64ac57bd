"""Two measured loops that are run again, in turns, for as long as their ratio is not clear."""

import random
import time
from dataclasses import dataclass

from .analyze.judging import Judged, apart, telling_stage, unrest, unrest_of_turns
from .analyze.quantity import Measurement
from .analyze.statistics import MIN_BLOCKS
from .analyze.turns import Apart, Turns, turns_of
from .loops import Loop, bench, take_turns
from .render import assertions as words
from .schema.stage import Stage
from .schema.steps import StepTable

FIRST_GROUPS = 8
"""Groups of four blocks before the first look at a ratio: a trimmed mean keeps six of them."""
_SEED = 20_261


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the data shows.

    Attributes:
        judged: the decisions.
        stage: the one to look into, None where none is known.
        loop: to look into.
        steps, blocks, unit: what it rests on.
        facts: sentences for the message, beside the decisions.
        notes: what makes it less sure.
    """

    judged: list[Judged]
    stage: Stage | None
    loop: object
    steps: tuple[int, ...]
    blocks: int
    unit: str
    facts: list[str]
    notes: list[str]


class TwoLoops:
    """Two loops that take turns; their groups of blocks so far."""

    def __init__(self, new: Measurement, base: Measurement) -> None:
        self._sides = (new, base)
        self._groups: list[tuple[list[StepTable], list[StepTable]]] = []
        self._order = random.Random(_SEED)
        self._is_apart = not (_can_go_on(new) and _can_go_on(base))

    def measured(self) -> Turns | Apart:
        """All that there is to judge by."""
        new, base = self._sides
        if self._is_apart:
            return apart(new.table, base.table)
        in_bursts = any(isinstance(one.loop, Loop) and one.loop.workers for one in self._sides)
        return turns_of(self._groups, in_bursts=in_bursts).without_warm_up()

    def extend(self, deadline_s: float) -> bool:
        """As many groups again; whether any was added."""
        loops = [one.loop for one in self._sides if isinstance(one.loop, Loop)]
        if self._is_apart or len(loops) < 2:
            return False
        before = len(self._groups)
        with bench(*loops) as place:
            deadline = place.deadline_ns(max(0.0, deadline_s - time.monotonic()))
            first, second = (
                (loop, loop.block_steps(_step_ns(one)))
                for loop, one in zip(loops, self._sides, strict=True)
            )
            if not before:  # neither has run for a while: a group that does not count
                take_turns(place, first, second, 1, self._order, deadline)
            wanted = max(FIRST_GROUPS, before)
            self._groups += take_turns(place, first, second, wanted, self._order, deadline)
        # Where batches or time ran out too soon, what was measured before is the better evidence.
        self._is_apart = len(self._groups) < MIN_BLOCKS
        return len(self._groups) > before

    def found(self, measured: Turns | Apart, judged: list[Judged], chosen: Stage | None) -> Look:
        """What a look at them shows."""
        costly, facts = chosen, []
        told = telling_stage(measured, chosen)
        if told is not None:
            costly = told[0]
            facts.append(words.change_words(*told))
        if isinstance(measured, Apart):
            unit, blocks = "block", min(len(measured.first), len(measured.second))
            notes = ["not in turns: batches or time ran out, so each one's own measurement counts"]
            for one in self._sides:
                notes += words.unrest_words(unrest(one.table), of=one.name)
        else:
            unit, blocks = "group of four blocks in turns", len(measured)
            notes = words.unrest_words(unrest_of_turns(measured), "group")
        notes += words.gap_words([gap for one in self._sides for gap in one.gaps])
        return Look(judged, costly, self._sides[0].loop, measured.steps, blocks, unit, facts, notes)


def _can_go_on(measurement: Measurement) -> bool:
    return isinstance(measurement.loop, Loop) and not measurement.loop.spent


def _step_ns(measurement: Measurement) -> float:
    steps = measurement.breakdown.steps
    return 1.0 if steps is None else max(1.0, steps.median)
