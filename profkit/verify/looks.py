"""The looks at a program before fixes are tried, within their part of the budget."""

import time
from collections.abc import Callable
from pathlib import Path

from ..analyze.what_if import LEAST_BATCHES
from ..schema.fix import FixOrder, Knob
from ..schema.stage import Stage
from .as_it_is import AsItIs
from .catalogue import Ground
from .look import WARMUP_STEPS, Look, look_at
from .starts import Starts

PROBES = 2
LOOKS_SHARE = 0.2
"""Of the budget, what all looks together may take."""
PROBE_BUDGET_S = 60.0
"""Of a smaller budget, looks at other numbers of workers would leave too little for trials."""
LEAST_WAIT = 0.03
"""Share of data wait below which other numbers of workers are not looked at."""


class Looks:
    """Short observed runs: as it is, and with at most `PROBES` other numbers of workers.

    Args:
        base: the program as it is; its instances stay.
        starts: starts the runs.
        ground: what the program has.
        logs: directory for the runs.
        budget_s: of the tuning.
        tell: told what happens.

    Attributes:
        spent_s: on all of them.
    """

    def __init__(
        self,
        base: AsItIs,
        starts: Starts,
        ground: Ground,
        logs: Path,
        budget_s: float,
        tell: Callable[[str], None],
    ) -> None:
        self._base, self._starts, self._ground = base, starts, ground
        self._logs, self._tell = logs, tell
        self._budget_s = budget_s
        self.spent_s = 0.0

    def take(self) -> Look:
        """Take them."""
        ground, loader = self._ground, self._base.fixes.loader
        probes = self._budget_s >= PROBE_BUDGET_S
        # Half is left for the others; a program that starts slowly may take all of it.
        limit_s = self._left_s / 2 if probes and self._left_s / 2 >= self._least_s else self._left_s
        if limit_s < self._least_s:
            return Look(
                None,
                ground.cores,
                f"nothing is predicted: a look at the program takes {self._least_s:.0f} s or more, "
                f"too much for a budget of {self._budget_s:.0f} s",
            )
        look = self._take(FixOrder(), limit_s, "a look at the program as it is")
        if not probes or look.course is None or ground.workers is None or loader is None:
            return look
        if not ground.workers and share_of(ground, Stage.DATALOADER) < LEAST_WAIT:
            return look
        for count in probe_counts(ground.workers, ground.cores):
            if self._left_s < self._least_s:
                break
            order = FixOrder({Knob.WORKERS.value: count}, loader)
            probed = self._take(order, self._left_s, f"a look at it with {count} workers").course
            if probed is not None:
                look.probes.append(probed)
        return look

    @property
    def _left_s(self) -> float:
        return LOOKS_SHARE * self._budget_s - self.spent_s

    @property
    def _least_s(self) -> float:
        """Below it a look tells nothing."""
        steps = WARMUP_STEPS + LEAST_BATCHES
        return self._base.start_s + steps * self._base.facts.step_ns / 1e9

    def _take(self, fixes: FixOrder, limit_s: float, what: str) -> Look:
        self._tell(what)
        began = time.monotonic()
        place = self._starts.place()
        run = self._logs / f"look-{self._starts.runs}"
        try:
            return look_at(place, run, limit_s, self._ground.cores, fixes)
        finally:
            self.spent_s += time.monotonic() - began
            self._starts.keep_only(self._base.instances)


def probe_counts(workers: int, cores: int) -> tuple[int, ...]:
    """Other numbers of workers to look at: the cores that there are, and few.

    Args:
        workers: of the program as it is.
        cores: that it may use.
    """
    wanted = dict.fromkeys((0 if workers else 1, max(2, cores)))
    return tuple(count for count in wanted if count != workers)[:PROBES]


def share_of(ground: Ground, stage: Stage) -> float:
    """What part of the step a stage holds, 0 to 1."""
    whole = sum(taken or 0.0 for taken in ground.stage_ns.values())
    return (ground.stage_ns.get(stage) or 0.0) / whole if whole else 0.0
