"""Tries fixes on a program: the promising ones first, then what is proven together.

Instances of the program as it is stay alive all the while, stopped; those with a fix take turns
with them, block by block, so that the machine's drift meets both alike.
"""

import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..analyze.gate import mean_stage_ns
from ..errors import InputError
from ..probe.command import shown_command
from ..probe.environment import usable_cores
from ..schema.fix import Fix
from ..schema.tuning import Gain, Trial, TuneFindings
from ..scripts.target import Target
from .as_it_is import PAIRS, AsItIs
from .catalogue import Ground, candidates
from .leftovers import own_prefix
from .look import Look
from .looks import PROBES, Looks
from .merits import again, challenger, confirmed, is_doubted, key_of, leader, ranked, with_adds
from .places import VersionOrder, places
from .promise import answer_for, fits, plans, promise, why_not
from .starts import Starts
from .trial import Tried, slot_s, try_fixes

RESERVE_S = 4.0
"""Of the budget, for ending what was started."""
LEAST_BUDGET_S = 10.0
MOST_COMBINED = 4
SINGLE_SHARE = 0.6
"""Of the time for trials: then what is proven is combined, before the rest is tried."""
LEAST_TRIAL_S = 5.0
"""A trial hardly takes less: two processes import torch."""
AGAIN_SHARE, LEAST_AGAIN_S = 1 / 3, 4.0
"""Of the time for trials, what is kept at most to measure the best once more; and what must be
left for that beside the start."""
MOST_AGAIN = 3
"""Times that the best is measured once more: another one may lead after that."""


@dataclass(frozen=True, slots=True)
class TuneOrder:
    """What to tune.

    Attributes:
        target: the program.
        budget_s: for all of it.
        tried: trials of an earlier, unfinished tuning of the same program, by name.
    """

    target: Target
    budget_s: float = 120.0
    tried: Mapping[str, Trial] = field(default_factory=dict)


def most_runs(budget_s: float) -> int:
    """How often a tuning starts the program at most.

    Args:
        budget_s: for all of it.
    """
    return 1 + PROBES + 2 * PAIRS + PAIRS * math.ceil(budget_s / LEAST_TRIAL_S)


def tune(
    order: TuneOrder,
    show: Callable[[str, float], None],
    keep: Callable[[Trial], None],
) -> TuneFindings:
    """Try fixes until the budget is spent or none is left.

    Args:
        order: what to tune.
        show: told what happens, and the part of the budget that is spent.
        keep: told each trial as soon as it is over.

    Raises:
        InputError: there is no such program, it never trained, or the budget is too small.
    """
    if not hasattr(os, "killpg"):
        raise InputError("profkit tune stops groups of processes, which this system does not have")
    if not order.budget_s >= LEAST_BUDGET_S:
        raise InputError(
            f"a budget of {order.budget_s:g} s is too small to try anything: give at least "
            f"{LEAST_BUDGET_S:.0f} s"
        )
    search = _Search(order, show, keep)
    with ExitStack() as stack:
        show("making places", 0.0)
        made = stack.enter_context(places([VersionOrder(order.target)], 1 + PAIRS))
        logs = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=own_prefix(), ignore_cleanup_errors=True)
        )
        starts = Starts(made.versions[0], Path(logs), most_runs(order.budget_s))
        return search.run(starts, Path(logs), made.gaps)


class _Search:
    def __init__(
        self,
        order: TuneOrder,
        show: Callable[[str, float], None],
        keep: Callable[[Trial], None],
    ) -> None:
        self._order = order
        self._show = show
        self._keep = keep
        self._began = time.monotonic()
        self._deadline = self._began + max(1.0, order.budget_s - RESERVE_S)
        self._done: dict[frozenset[str], Tried] = {}

    def run(self, starts: Starts, logs: Path, gaps: Sequence[str]) -> TuneFindings:
        self._starts = starts
        self._tell("starting the program as it is")
        self._base = base = AsItIs(starts, self._deadline)
        try:
            self._ground = Ground(base.facts, usable_cores(), mean_stage_ns([base.blocks]))
            looks = Looks(base, starts, self._ground, logs, self._order.budget_s, self._tell)
            look = looks.take()
            self._reserve_s = self._reserve()
            trials = self._try_all(look)
            unsure = self._measure_best_again(trials)
        finally:
            base.end()
        more = (look.gap, base.likeness.reason, self._restarts(), unsure)
        return TuneFindings(
            command=_shown(self._order.target),
            step_ns=base.blocks.mean_ns,
            environment=base.facts.environment,
            device=base.facts.device,
            loader=base.facts.loader,
            trials=ranked(self._latest(trials)),
            runs=starts.runs,
            wall_s=time.monotonic() - self._began,
            budget_s=self._order.budget_s,
            looks_s=looks.spent_s,
            gaps=(*gaps, *(one for one in more if one is not None)),
        )

    # Trials -------------------------------------------------------------------------------------

    def _try_all(self, look: Look) -> list[Trial]:
        fixes = candidates(self._ground)
        answers = {fix.name: answer_for(self._ground, fix, look.predict(fix)) for fix in fixes}
        began = time.monotonic()
        half = began + SINGLE_SHARE * (self._deadline - self._reserve_s - began)
        trials: list[Trial] = []
        combined: list[Trial] | None = None
        for plan, _ in plans(self._ground, fixes, answers):
            if combined is None and time.monotonic() > half and any(t.is_proven for t in trials):
                combined = self._combine(fixes, trials)
            if len(plan) > 1:
                trials.append(self._try(plan))
                continue
            answer = answers[plan[0].name]
            reason = why_not(self._ground, plan[0], answer)
            trial = self._try(plan) if reason is None else _left(plan, reason)
            trials.append(replace(trial, predicted=answer))
        return trials + (self._combine(fixes, trials) if combined is None else combined)

    def _combine(self, fixes: Sequence[Fix], trials: Sequence[Trial]) -> list[Trial]:
        """The best that is proven with others beside it, as long as each adds something."""
        found: list[Trial] = []
        best = leader(self._latest(trials))
        if best is None:
            return found
        useless = {
            one.fixes[0]
            for one in trials
            if len(one.fixes) == 1 and (one.gain in _USELESS or one.same is False)
        }
        beside: set[Fix] = set()
        doubted: set[str] = set()
        while best is not None and len(best.fixes) < MOST_COMBINED:
            ground = self._beside(best)
            waiting = [
                fix
                for fix in fixes
                if fix not in useless
                and fix not in beside
                and fits(best.fixes, fix)
                and why_not(ground, fix, None) is None
            ]
            if not waiting:
                break
            fix = max(waiting, key=lambda fix: promise(ground, fix))
            beside.add(fix)
            known = key_of((*best.fixes, fix)) in self._done
            trial = self._try((*best.fixes, fix), is_fine=True)
            if trial.gain is Gain.LEFT:
                break
            if not known:
                found.append(trial)
            if is_doubted(best, trial) and best.name not in doubted:
                doubted.add(best.name)
                self._measure_again(best, again)
            now = leader(self._latest([*trials, *found]))
            if now is not None and not key_of(best.fixes) <= key_of(now.fixes):
                beside.clear()  # what was tried beside another one says little
            best = now
        return found

    def _measure_best_again(self, trials: Sequence[Trial]) -> str | None:
        """Measure the best with other instances; what to say where that could not be.

        Of several that win the same, the one that was lucky leads: its interval was chosen, and
        holds the truth less often than it says.
        """
        is_renewed = False
        for _ in range(MOST_AGAIN):
            best = challenger(self._latest(trials))
            if best is None or time.monotonic() >= self._deadline:
                break
            if not is_renewed and self._deadline - time.monotonic() >= self._again_s(3):
                self._base.end()  # others are started: these were part of its luck
                is_renewed = True
            if not self._measure_again(best, confirmed):
                break
        best = leader(self._latest(trials))
        if best is None or best.first is not None:
            return None
        return (
            f"{best.name} was not measured again: of several fixes, the one that was lucky leads, "
            "so that it may win less than its interval says; with a larger --budget it is"
        )

    def _measure_again(self, best: Trial, joined: Callable[[Trial, Trial], Trial]) -> bool:
        """Measure once more what may have looked better than it is; whether there was time.

        Args:
            best: a trial.
            joined: makes one trial of the first and the second.
        """
        if time.monotonic() >= self._deadline:
            return False
        tried = self._measured(best.fixes, self._deadline, is_fine=True, is_known=True)
        if tried.trial.speedup is None:
            return False
        self._done[key_of(best.fixes)] = replace(tried, trial=joined(best, tried.trial))
        self._keep(self._done[key_of(best.fixes)].trial)
        return True

    def _latest(self, trials: Sequence[Trial]) -> tuple[Trial, ...]:
        """Trials as they were measured last, each held against its parts."""
        found = []
        for trial in trials:
            tried = self._done.get(key_of(trial.fixes))
            found.append(
                trial if tried is None else replace(tried.trial, predicted=trial.predicted)
            )
        return with_adds(found)

    def _again_s(self, starts: int) -> float:
        """What measuring the best once more takes, with so many starts."""
        base = self._base
        return starts * base.start_s + slot_s(base.facts.step_ns, base.workers)

    def _reserve(self) -> float:
        """What is kept for that, in s; nothing where it would not do."""
        kept_s = min(self._again_s(3), AGAIN_SHARE * (self._deadline - time.monotonic()))
        return kept_s if kept_s >= self._base.start_s + LEAST_AGAIN_S else 0.0

    def _until(self, fixes: Sequence[Fix]) -> float:
        """When a trial must be over.

        Nothing is kept for the best while nothing is proven, nor from two that are proven alone:
        together they may win far more than a second measurement corrects.
        """
        early = self._deadline - self._reserve_s
        proven = [one.trial for one in self._done.values() if one.trial.is_proven]
        alone = {one.fixes[0] for one in proven if len(one.fixes) == 1}
        if len(fixes) == 2 and alone.issuperset(fixes):
            return self._deadline
        if any(one.first is None for one in proven):
            return early
        return early if time.monotonic() < early else self._deadline

    def _beside(self, best: Trial) -> Ground:
        """The ground with fixes applied: what their stages take now."""
        seen = self._done[key_of(best.fixes)].stage_ns
        return self._ground if seen is None else replace(self._ground, stage_ns=seen)

    def _try(self, fixes: tuple[Fix, ...], *, is_fine: bool = False) -> Trial:
        key = key_of(fixes)
        if key not in self._done:
            self._done[key] = self._tried(fixes, is_fine=is_fine)
        return self._done[key].trial

    def _tried(self, fixes: tuple[Fix, ...], *, is_fine: bool) -> Tried:
        name = " + ".join(fix.name for fix in fixes)
        before = self._order.tried.get(name)
        if before is not None and before.is_final:
            return Tried(before)
        until = self._until(fixes)
        if time.monotonic() >= until:
            return Tried(_left(fixes, "the budget was spent"))
        tried = self._measured(fixes, until, is_fine=is_fine)
        self._keep(tried.trial)
        return tried

    def _measured(
        self, fixes: tuple[Fix, ...], until: float, *, is_fine: bool, is_known: bool = False
    ) -> Tried:
        name = " + ".join(fix.name for fix in fixes)
        return try_fixes(
            self._base,
            self._starts,
            fixes,
            until,
            lambda what: self._tell(f"{name}: {what}"),
            is_fine=is_fine,
            is_known=is_known,
        )

    def _restarts(self) -> str | None:
        count = sum(one.restarts for one in self._done.values())
        if not count:
            return None
        times = "once" if count == 1 else f"{count} times"
        return (
            f"the program ended by itself {times} while it was measured and was started anew, "
            "which took time: with more epochs more of it is left to measure"
        )

    def _tell(self, what: str) -> None:
        spent = (time.monotonic() - self._began) / self._order.budget_s
        self._show(what, min(1.0, spent))


_USELESS = (Gain.FAILED, Gain.SLOWER)


def _left(fixes: tuple[Fix, ...], reason: str) -> Trial:
    return Trial(fixes, None, None, Gain.LEFT, reason=reason)


def _shown(target: Target) -> str:
    kind = ["-m"] if target.kind == "module" else []
    return shown_command([*kind, target.name, *target.arguments])
