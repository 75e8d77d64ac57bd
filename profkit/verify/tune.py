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
from ..schema.fix import Fix, FixOrder, Knob
from ..schema.stage import Stage
from ..schema.tuning import Gain, Trial, TuneFindings
from ..scripts.target import Target
from .as_it_is import PAIRS, AsItIs
from .catalogue import Ground, candidates
from .leftovers import own_prefix
from .look import Look, look_at
from .places import VersionOrder, places
from .promise import answer_for, fits, plans, promise, why_not
from .starts import Starts
from .trial import Tried, try_fixes

RESERVE_S = 4.0
"""Of the budget, for ending what was started."""
LEAST_BUDGET_S = 10.0
MOST_COMBINED = 4
PROBES = 2
LOOK_SHARE, LEAST_LOOK_S = 0.1, 8.0
"""Of the budget, what one look may take; and at least."""
LEAST_WAIT = 0.03
"""Share of data wait below which other numbers of workers are not looked at."""
SINGLE_SHARE = 0.6
"""Of the time for trials: then what is proven is combined, before the rest is tried."""
LEAST_TRIAL_S = 5.0
"""A trial hardly takes less: two processes import torch."""


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
    return 1 + PROBES + PAIRS + PAIRS * math.ceil(budget_s / LEAST_TRIAL_S)


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
        self._starts, self._logs = starts, logs
        self._tell("starting the program as it is")
        self._base = base = AsItIs(starts, self._deadline)
        try:
            self._ground = Ground(base.facts, usable_cores(), mean_stage_ns([base.blocks]))
            look = self._look()
            trials = self._try_all(look)
        finally:
            base.end()
        more = (look.gap, base.likeness.reason, self._restarts())
        return TuneFindings(
            command=_shown(self._order.target),
            step_ns=base.blocks.mean_ns,
            environment=base.facts.environment,
            device=base.facts.device,
            loader=base.facts.loader,
            trials=ranked([self._latest(one) for one in trials]),
            runs=starts.runs,
            wall_s=time.monotonic() - self._began,
            budget_s=self._order.budget_s,
            gaps=(*gaps, *(one for one in more if one is not None)),
        )

    # Looks --------------------------------------------------------------------------------------

    def _look(self) -> Look:
        """Short observed runs: as it is, and with at most `PROBES` other numbers of workers."""
        look = self._look_with(FixOrder(), "a look at the program as it is")
        ground, loader = self._ground, self._base.fixes.loader
        if look.course is None or ground.workers is None or loader is None:
            return look
        if not ground.workers and _share(ground, Stage.DATALOADER) < LEAST_WAIT:
            return look
        for count in probe_counts(ground.workers, ground.cores):
            order = FixOrder({Knob.WORKERS.value: count}, loader)
            probed = self._look_with(order, f"a look at it with {count} workers").course
            if probed is not None:
                look.probes.append(probed)
        return look

    def _look_with(self, fixes: FixOrder, what: str) -> Look:
        self._tell(what)
        limit_s = max(LEAST_LOOK_S, LOOK_SHARE * self._order.budget_s)
        limit_s = min(limit_s, (self._deadline - time.monotonic()) / 2)
        place = self._starts.place()
        run = self._logs / f"look-{self._starts.runs}"
        try:
            return look_at(place, run, limit_s, self._ground.cores, fixes)
        finally:
            self._starts.keep_only(self._base.instances)

    # Trials -------------------------------------------------------------------------------------

    def _try_all(self, look: Look) -> list[Trial]:
        fixes = candidates(self._ground)
        answers = {fix.name: answer_for(self._ground, fix, look.predict(fix)) for fix in fixes}
        began = time.monotonic()
        half = began + SINGLE_SHARE * (self._deadline - began)
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
        proven = [one for one in ranked(trials) if one.is_proven]
        found: list[Trial] = []
        if not proven:
            return found
        best = proven[0]
        useless = {
            one.fixes[0]
            for one in trials
            if len(one.fixes) == 1 and (one.gain in _USELESS or one.same is False)
        }
        waiting = [fix for fix in fixes if fix not in useless]
        doubted: set[str] = set()
        while waiting and len(best.fixes) < MOST_COMBINED:
            ground = self._beside(best)
            waiting = [fix for fix in waiting if fits(best.fixes, fix)]
            waiting = [fix for fix in waiting if why_not(ground, fix, None) is None]
            if not waiting:
                break
            fix = max(waiting, key=lambda fix: promise(ground, fix))
            waiting.remove(fix)
            known = _key((*best.fixes, fix)) in self._done
            trial = self._try((*best.fixes, fix), is_fine=True)
            trial = replace(trial, adds=adds(trial, best))
            if trial.gain is Gain.LEFT:
                break
            if not known:
                found.append(trial)
            if trial.adds:
                best = trial
            elif is_doubted(best, trial) and best.name not in doubted:
                doubted.add(best.name)
                self._measure_again(best)
                if not self._try(best.fixes).is_proven:
                    break
        return found

    def _measure_again(self, best: Trial) -> None:
        """Once more, since what else ran on the machine may have made it look better than it is."""
        if time.monotonic() >= self._deadline:
            return
        tried = self._measured(best.fixes, is_fine=True)
        if tried.trial.speedup is not None:
            self._done[_key(best.fixes)] = replace(tried, trial=confirmed(best, tried.trial))
            self._keep(self._done[_key(best.fixes)].trial)

    def _latest(self, trial: Trial) -> Trial:
        tried = self._done.get(_key(trial.fixes))
        if tried is None:
            return trial
        return replace(tried.trial, predicted=trial.predicted, adds=trial.adds)

    def _beside(self, best: Trial) -> Ground:
        """The ground with fixes applied: what their stages take now."""
        seen = self._done[_key(best.fixes)].stage_ns
        return self._ground if seen is None else replace(self._ground, stage_ns=seen)

    def _try(self, fixes: tuple[Fix, ...], *, is_fine: bool = False) -> Trial:
        key = _key(fixes)
        if key not in self._done:
            self._done[key] = self._tried(fixes, is_fine=is_fine)
        return self._done[key].trial

    def _tried(self, fixes: tuple[Fix, ...], *, is_fine: bool) -> Tried:
        name = " + ".join(fix.name for fix in fixes)
        before = self._order.tried.get(name)
        if before is not None and before.gain is not Gain.LEFT:
            return Tried(before)
        if time.monotonic() >= self._deadline:
            return Tried(_left(fixes, "the budget was spent"))
        tried = self._measured(fixes, is_fine=is_fine)
        self._keep(tried.trial)
        return tried

    def _measured(self, fixes: tuple[Fix, ...], *, is_fine: bool) -> Tried:
        name = " + ".join(fix.name for fix in fixes)
        return try_fixes(
            self._base,
            self._starts,
            fixes,
            self._deadline,
            lambda what: self._tell(f"{name}: {what}"),
            is_fine=is_fine,
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


def probe_counts(workers: int, cores: int) -> tuple[int, ...]:
    """Other numbers of workers to look at: the cores that there are, and few.

    Args:
        workers: of the program as it is.
        cores: that it may use.
    """
    wanted = dict.fromkeys((0 if workers else 1, max(2, cores)))
    return tuple(count for count in wanted if count != workers)[:PROBES]


def adds(trial: Trial, best: Trial) -> bool:
    """Whether fixes together are clearly faster than the same without the last one."""
    if not trial.is_proven or trial.speedup is None or best.speedup is None:
        return False
    return (trial.speedup.low or 0.0) > best.speedup.value


def is_doubted(best: Trial, more: Trial) -> bool:
    """Whether a trial of the same fixes and one more makes one doubt what they gave alone."""
    if best.speedup is None or more.speedup is None:
        return False
    return (more.speedup.high or math.inf) < (best.speedup.low or 0.0)


def confirmed(before: Trial, again: Trial) -> Trial:
    """A trial that was measured twice: the second time counts, nobody chose it.

    Args:
        before, again: with their speedups.
    """
    assert before.speedup is not None
    assert again.speedup is not None
    note = f"it was measured twice: {before.speedup.value:.3g}×, then {again.speedup.value:.3g}×"
    if again.is_proven:
        return replace(again, notes=(*again.notes, note))
    return replace(again, reason=f"{note}: something else on the machine must have changed")


def ranked(trials: Sequence[Trial]) -> tuple[Trial, ...]:
    """Best first: proven, then measured, then the others; what adds nothing after what has all."""
    names = {_key(trial.fixes): trial for trial in trials}

    def rank(trial: Trial) -> tuple[int, float, int]:
        if trial.speedup is None:
            return 3, 0.0, 0
        less = names.get(_key(trial.fixes[:-1])) if trial.adds is False else None
        value = trial.speedup.value
        if less is not None and less.speedup is not None:
            value = min(value, less.speedup.value)
        return (0 if trial.is_proven else 1), -value, len(trial.fixes)

    return tuple(sorted(trials, key=rank))


def _key(fixes: Sequence[Fix]) -> frozenset[str]:
    return frozenset(fix.name for fix in fixes)


def _left(fixes: tuple[Fix, ...], reason: str) -> Trial:
    return Trial(fixes, None, None, Gain.LEFT, reason=reason)


def _share(ground: Ground, stage: Stage) -> float:
    whole = sum(taken or 0.0 for taken in ground.stage_ns.values())
    return (ground.stage_ns.get(stage) or 0.0) / whole if whole else 0.0


def _shown(target: Target) -> str:
    kind = ["-m"] if target.kind == "module" else []
    return shown_command([*kind, target.name, *target.arguments])
