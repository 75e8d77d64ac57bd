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

from ..analyze.gate import mean_stage_ns, sum_up
from ..errors import InputError
from ..probe.command import shown_command
from ..probe.environment import usable_cores
from ..schema.fix import Fix, FixFacts, FixOrder, Knob
from ..schema.gate import BlockPair
from ..schema.paced import Block, InstanceFacts
from ..schema.prediction import Prediction
from ..schema.stage import STAGES, Stage
from ..schema.tuning import Gain, Trial, TuneFindings
from ..scripts.target import Target
from .catalogue import Ground, candidates
from .duel import block_steps, take_turns
from .equivalence import Likeness, compare_bases, compare_fixed
from .instance import GoneError, Instance, LateError, Launch, end_all
from .leftovers import own_prefix
from .look import Look, look_at
from .places import Place, VersionOrder, VersionPlaces, places
from .repository import OF_A_HOOK
from .trial import WORTH_LOG, is_clear, ratio_of

PAIRS = 2
"""Instances of the program as it is, and of it with a fix."""
WARMUP_STEPS = 12
WATCHED = 8
"""First batches and losses that must stay equal; within the warm-up."""
LEAST_BOUND = 1.02
"""A fix that cannot win more than that is not tried."""
RESERVE_S = 4.0
"""Of the budget, for ending what was started."""
SLOT_S = 10.0
"""Of measuring, for each trial, at most."""
HANG_S = 60.0
"""Until an instance with a fix must be warm, at most: decoding and compiling take long."""
MOST_COMBINED = 4
PROBES = 2
LOOK_SHARE = 0.2
"""Of the time that is left, what one look may take."""
_SEED = 1
_AS_IT_IS = (FixOrder(watched=WATCHED), "the program as it is")
_MODEL = (Stage.FORWARD, Stage.BACKWARD)
_SHORTENED = {
    Knob.PRECISION: _MODEL,
    Knob.LAYOUT: _MODEL,
    Knob.COMPILER: (*_MODEL, Stage.OPTIMIZER),
    Knob.THREADS: (*_MODEL, Stage.OPTIMIZER, Stage.DATALOADER),
    Knob.OPTIMIZER: (Stage.OPTIMIZER,),
    Knob.GRADIENTS: (Stage.OPTIMIZER,),
    Knob.PIN: (Stage.TRANSFER,),
    Knob.PREFETCH: (Stage.DATALOADER,),
    Knob.PERSISTENT: (Stage.DATALOADER,),
}
"""Which stages a fix can shorten; all of them where it is not named."""


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


@dataclass(slots=True, eq=False)
class _Base:
    """The program as it is: its instances, warm and stopped."""

    instances: list[Instance]
    facts: InstanceFacts
    fixes: FixFacts
    likeness: Likeness
    blocks: BlockPair
    runs: int


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
        InputError: there is no such program, or it never trained.
    """
    if not hasattr(os, "killpg"):
        raise InputError("profkit tune stops groups of processes, which this system does not have")
    search = _Search(order, show, keep)
    with ExitStack() as stack:
        made = stack.enter_context(places([VersionOrder(order.target)], 2 * PAIRS + 1))
        logs = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=own_prefix(), ignore_cleanup_errors=True)
        )
        return search.run(made.versions[0], Path(logs), made.gaps)


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
        self._runs = 0

    def run(self, version: VersionPlaces, logs: Path, gaps: Sequence[str]) -> TuneFindings:
        self._unused = list(version.places)
        self._version, self._logs = version, logs
        base = self._start_base()
        try:
            ground = self._ground(base)
            look = self._look(base, ground)
            trials = self._try_all(base, ground, look)
        finally:
            end_all(base.instances)
        more = tuple(one for one in (look.gap, base.likeness.reason) if one is not None)
        return TuneFindings(
            command=_shown(self._order.target),
            step_ns=base.blocks.mean_ns,
            environment=base.facts.environment,
            device=base.facts.device,
            loader=base.facts.loader,
            trials=tuple(sorted(trials, key=_rank)),
            runs=self._runs,
            wall_s=time.monotonic() - self._began,
            budget_s=self._order.budget_s,
            gaps=(*gaps, *more),
        )

    # The program as it is -----------------------------------------------------------------------

    def _look(self, base: _Base, ground: Ground) -> Look:
        """Short observed runs: as it is, and with at most `PROBES` other numbers of workers."""
        look = self._look_with(None, "a look at the program as it is")
        if look.course is None or ground.workers is None or base.fixes.loader is None:
            return look
        for count in probe_counts(ground.workers, ground.cores):
            order = FixOrder({Knob.WORKERS.value: count}, base.fixes.loader)
            probed = self._look_with(order, f"a look at it with {count} workers").course
            if probed is not None:
                look.probes.append(probed)
        return look

    def _look_with(self, fixes: FixOrder | None, what: str) -> Look:
        self._tell(what)
        self._runs += 1
        limit_s = (self._deadline - time.monotonic()) * LOOK_SHARE
        run = self._logs / f"look-{self._runs}"
        return look_at(self._place(), run, limit_s, usable_cores(), fixes)

    def _start_base(self) -> _Base:
        instances: list[Instance] = []
        try:
            for _ in range(PAIRS):
                instances.append(Instance(self._launch(*_AS_IT_IS)))
            for one in instances:
                one.wait_until_warm(self._deadline)
            facts = [one.facts for one in instances if one.facts is not None]
            seen = [one.fixes for one in facts if one.fixes is not None]
            steps = block_steps(facts[0].step_ns, _workers(facts[0]))
            blocks = [
                Block(*instances[0].run_block(steps, self._deadline), _workers(facts[0]))
                for _ in range(2)
            ]
            likeness = compare_bases(seen[0], seen[1])
            return _Base(instances, facts[0], seen[0], likeness, sum_up(blocks), len(instances))
        except GoneError as gone:
            end_all(instances)
            raise InputError(
                f"the program ended before it had trained {WARMUP_STEPS} steps ({gone}): give it "
                "more epochs, or see that it trains at all"
            ) from None
        except LateError:
            end_all(instances)
            raise InputError(
                f"the budget was spent before the program had trained {WARMUP_STEPS} steps: raise "
                "--budget"
            ) from None
        except BaseException:
            end_all(instances)
            raise

    def _ground(self, base: _Base) -> Ground:
        return Ground(base.facts, usable_cores(), mean_stage_ns([base.blocks]))

    # Trials -------------------------------------------------------------------------------------

    def _try_all(self, base: _Base, ground: Ground, look: Look) -> list[Trial]:
        fixes = candidates(ground)
        answers = {fix.name: look.predict(fix) for fix in fixes}
        promises = {fix.name: _promise(ground, fix, answers[fix.name]) for fix in fixes}
        trials: list[Trial] = []
        for fix in sorted(fixes, key=lambda fix: -promises[fix.name]):
            if promises[fix.name] < LEAST_BOUND:
                trial = _left((fix,), "it cannot win more than 2 % here")
            else:
                trial = self._try(base, (fix,))
            trials.append(replace(trial, predicted=answers[fix.name]))
        return trials + self._combine(base, trials)

    def _combine(self, base: _Base, trials: Sequence[Trial]) -> list[Trial]:
        """The proven fixes together, the best first, as long as each adds something."""
        proven = sorted((one for one in trials if one.is_proven), key=_rank)
        found: list[Trial] = []
        if not proven:
            return found
        best = proven[0]
        rest = [
            one.fixes[0]
            for one in trials
            if one.gain in (Gain.FASTER, Gain.EQUAL, Gain.UNCLEAR) and one.same is True
        ]
        for fix in rest:
            if len(best.fixes) >= MOST_COMBINED:
                break
            if any(fix.knob is own.knob for own in best.fixes):
                continue
            together = self._try(base, (*best.fixes, fix))
            found.append(together)
            if together.is_proven and _log_gain(together) > _log_gain(best) + WORTH_LOG:
                best = together
        return found

    def _try(self, base: _Base, fixes: tuple[Fix, ...]) -> Trial:
        trial = self._order.tried.get(" + ".join(fix.name for fix in fixes))
        if trial is not None and trial.gain is not Gain.LEFT:
            return trial
        if time.monotonic() >= self._deadline:
            return _left(fixes, "the budget was spent")
        trial = self._measured(base, fixes)
        self._keep(trial)
        return trial

    def _measured(self, base: _Base, fixes: tuple[Fix, ...]) -> Trial:
        began = time.monotonic()
        name = " + ".join(fix.name for fix in fixes)
        self._tell(f"{name}: starting")
        settings = {fix.knob.value: fix.value for fix in fixes}
        fixed = (FixOrder(settings, base.fixes.loader, WATCHED), name)
        running = dict(zip(range(0, 2 * PAIRS, 2), base.instances, strict=True))
        found = Trial(fixes, None, None, Gain.FAILED)

        def launch(row: int) -> Launch:
            return self._launch(*(fixed if row % 2 else _AS_IT_IS))

        try:
            for row in range(1, 2 * PAIRS, 2):
                running[row] = Instance(launch(row))
            until = min(self._deadline, time.monotonic() + HANG_S)
            for row in range(1, 2 * PAIRS, 2):
                running[row].wait_until_warm(until)
            seen = running[1].facts
            assert seen is not None  # it is warm
            assert seen.fixes is not None  # it was told to
            if seen.fixes.failures:
                reason = "; ".join(seen.fixes.failures.values())
                return replace(found, reason=reason, measured_s=time.monotonic() - began)
            likeness = base.likeness
            if likeness.same is True:
                likeness = compare_fixed(base.fixes, seen.fixes, fixes)
            until = min(self._deadline, time.monotonic() + SLOT_S)
            duel = take_turns(
                launch,
                2,
                running,
                until,
                _SEED,
                is_clear,
                lambda what, _: self._tell(f"{name}: {what}"),
            )
            ratio = ratio_of(duel)
            found = replace(found, notes=seen.fixes.notes, same=likeness.same)
            if ratio is None:
                return replace(found, gain=Gain.UNCLEAR, reason="the budget was spent")
            estimate = ratio.estimate
            gain = _gain(estimate.low or 0.0, estimate.high or 0.0)
            return replace(
                found,
                speedup=estimate,
                gain=gain,
                reason=likeness.reason,
                measured_s=time.monotonic() - began,
            )
        except (GoneError, InputError) as gone:
            return replace(found, reason=str(gone), measured_s=time.monotonic() - began)
        except LateError:
            spent = time.monotonic() >= self._deadline
            reason = "the budget was spent" if spent else f"it was not warm after {HANG_S:.0f} s"
            gain = Gain.LEFT if spent else Gain.FAILED
            return replace(found, gain=gain, reason=reason, measured_s=time.monotonic() - began)
        finally:
            # Those of the base may be others by now.
            base.instances = [running[row] for row in range(0, 2 * PAIRS, 2)]
            end_all([one for row, one in running.items() if row % 2])

    def _launch(self, fixes: FixOrder, name: str) -> Launch:
        self._runs += 1
        return _launch(self._place(), self._logs / str(self._runs), name, fixes)

    def _place(self) -> Place:
        return self._unused.pop(0) if self._unused else self._version.another()

    def _tell(self, what: str) -> None:
        spent = (time.monotonic() - self._began) / self._order.budget_s
        self._show(what, min(1.0, spent))


def probe_counts(workers: int, cores: int) -> tuple[int, ...]:
    """Other numbers of workers to look at: the cores that there are, and few.

    Args:
        workers: of the program as it is.
        cores: that it may use.
    """
    wanted = dict.fromkeys((0 if workers else 1, max(2, cores)))
    return tuple(count for count in wanted if count != workers)[:PROBES]


def _promise(ground: Ground, fix: Fix, answer: Prediction | None) -> float:
    """The speedup by which fixes are ranked: predicted, or half of the most that it can win."""
    if answer is not None and answer.speedup is not None:
        return answer.speedup.value
    return math.sqrt(bound(ground, fix))


def bound(ground: Ground, fix: Fix) -> float:
    """The most that a fix can win, by the stages that it can shorten (Amdahl)."""
    taken = {stage: ground.stage_ns.get(stage) or 0.0 for stage in STAGES}
    whole = sum(taken.values())
    stages = _SHORTENED.get(fix.knob, tuple(STAGES))
    gone = sum(taken[stage] for stage in stages)
    return whole / max(whole - gone, whole / 100) if whole else 1.0


def _gain(low: float, high: float) -> Gain:
    worth = 1 + WORTH_LOG
    if low > 1:
        return Gain.FASTER
    if high < 1:
        return Gain.SLOWER
    return Gain.EQUAL if 1 / worth < low and high < worth else Gain.UNCLEAR


def _left(fixes: tuple[Fix, ...], reason: str) -> Trial:
    return Trial(fixes, None, None, Gain.LEFT, reason=reason)


def _rank(trial: Trial) -> tuple[int, float]:
    """Best first: proven, then measured, then the others."""
    if trial.speedup is None:
        return 3, 0.0
    return (0 if trial.is_proven else 1), -trial.speedup.value


def _log_gain(trial: Trial) -> float:
    return math.log(trial.speedup.value) if trial.speedup is not None else 0.0


def _workers(facts: InstanceFacts) -> int:
    return 0 if facts.loader is None else facts.loader.num_workers or 0


def _launch(place: Place, log: Path, name: str, fixes: FixOrder) -> Launch:
    environment = {
        **{key: value for key, value in os.environ.items() if key not in OF_A_HOOK},
        **place.environment,
    }
    return Launch(place.target, place.directory, environment, log, WARMUP_STEPS, name, fixes)


def _shown(target: Target) -> str:
    kind = ["-m"] if target.kind == "module" else []
    return shown_command([*kind, target.name, *target.arguments])
