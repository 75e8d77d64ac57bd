"""One trial: a program with fixes takes turns with the program as it is, until it is clear."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..analyze.gate import (
    compared_rounds,
    mean_stage_ns,
    mean_step_ns,
    speedup,
    without_warm_up,
)
from ..analyze.statistics import LogRatio
from ..errors import InputError
from ..schema.decision import Outcome
from ..schema.fix import Fix, FixFacts, FixOrder, Knob
from ..schema.gate import Round
from ..schema.stage import Stage
from ..schema.tuning import Gain, Trial
from .as_it_is import PAIRS, AsItIs, workers_of
from .duel import LOOKS, Duel, EndsError, block_steps, take_turns
from .equivalence import compare_all
from .instance import GoneError, Instance, LateError, Launch, end_all
from .starts import AS_IT_IS, WATCHED, SpentError, Starts

LEAST_ROUNDS = 8
CLEAR_LOG = 0.02
"""Half the width of an interval, as a logarithm, that is fine enough to stop."""
WORTH_LOG = 0.02
"""What a change must win, as a logarithm, to be worth it."""
ROUGH_SHARE = 0.1
"""Half the width over the gain from which a rough number will do: it decides the same."""
ERROR_RATE = 0.005
"""Chance to call a fix faster that wins nothing, over all looks at a trial. A tuning has about ten
trials. That it wins more than `WORTH_LOG` is the best guess only: were that to be as sure, at two
pairs of processes a gain of 5 % would hardly ever be proven."""
LEAST_SLOT_S = 10.0
"""Of measuring, for each trial, at most; longer where steps are, see `slot_s`."""
LEAST_PATIENCE_S = 15.0
"""Until a program with a fix must be warm, at least."""
PATIENCE = 5.0
"""The same as a multiple of what it takes as it is."""
_SLOW_S = {Knob.DATA: 60.0, Knob.COMPILER: 60.0}
"""What decoding the data and compiling may take beyond that."""
_PART_OF_THE_REST = 0.5
"""Of the time that is left, what one trial may wait: one that hangs must not take all."""
_LEAST_STARTS = 2.0
"""In starts of the program as it is: what must be left of the budget for a trial, and how long
one must have had before it is said to hang."""
_RESTARTS = 1
_ASK_S = 2.0
"""How long the instances with fixes have, after they were measured, to say what became of them."""
_SEED = 1


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A trial and what it showed beside its result.

    Attributes:
        trial: the result.
        stage_ns: what each stage takes with the fixes; None where they were not measured.
        restarts: how often an instance ended by itself meanwhile.
    """

    trial: Trial
    stage_ns: dict[Stage, float | None] | None = None
    restarts: int = 0


def try_fixes(
    base: AsItIs,
    starts: Starts,
    fixes: tuple[Fix, ...],
    deadline: float,
    tell: Callable[[str], None],
    *,
    is_fine: bool = False,
    is_known: bool = False,
) -> Tried:
    """Measure fixes against the program as it is, whose instances are warm or replaced by then.

    Args:
        base: the program as it is; its instances go on afterwards.
        starts: starts those with the fixes.
        fixes: what they apply, together.
        deadline: by `time.monotonic`.
        tell: told what happens.
        is_fine: whether a rough number will not do.
        is_known: whether it ran before: it need not have time enough to be told from a hang.
    """
    began = time.monotonic()
    found = Trial(fixes, None, None, Gain.FAILED)
    running: dict[int, Instance] = {}
    name = found.name
    order = FixOrder({fix.knob.value: fix.value for fix in fixes}, base.fixes.loader, WATCHED)

    def launch(row: int) -> Launch:
        return starts.launch(*((order, name) if row % 2 else AS_IT_IS))

    def ended(gain: Gain, reason: str | None) -> Tried:
        spent_s = time.monotonic() - began
        return Tried(replace(found, gain=gain, reason=reason, measured_s=spent_s))

    try:
        tell("starting")
        try:
            base.make_ready(deadline)
        except GoneError as gone:
            return ended(Gain.LEFT, _base_ended(str(gone)))
        left_s = deadline - time.monotonic()
        if left_s < (1.0 if is_known else _LEAST_STARTS) * base.start_s:
            raise LateError
        running = dict(zip(range(0, 2 * PAIRS, 2), base.instances, strict=True))
        for row in range(1, 2 * PAIRS, 2):
            running[row] = Instance(launch(row))
            running[row].start()
        limit_s = patience_s(base.start_s, fixes, left_s)
        until = time.monotonic() + limit_s
        try:
            for row in range(1, 2 * PAIRS, 2):
                running[row].wait_until_warm(until)
        except LateError:
            if time.monotonic() >= deadline or limit_s < _LEAST_STARTS * base.start_s:
                raise
            return ended(
                Gain.FAILED, f"it was not warm after {limit_s:.0f} s: it hangs, or starts slowly"
            )
        found = _held_against(found, base, _fixes_of(running))
        if found.refused:
            return ended(Gain.FAILED, found.reason)
        seen = running[1].facts
        assert seen is not None  # it is warm
        workers = max(base.workers, workers_of(seen))
        slot = slot_s(max(base.facts.step_ns, seen.step_ns), workers)
        duel = take_turns(
            launch,
            2,
            running,
            min(deadline, time.monotonic() + slot),
            _SEED,
            lambda duel: is_clear(ratio_of(duel.rounds), len(duel.rounds), is_fine=is_fine),
            lambda what, _: tell(what),
            _RESTARTS,
            with_gaps=True,
        )
        # What failed since, and others that were started meanwhile.
        found = _held_against(found, base, _fixes_of(running, time.monotonic() + _ASK_S))
        if found.refused:
            return ended(Gain.FAILED, found.reason)
        return _judged(found, duel, time.monotonic() - began)
    except GoneError as gone:
        return ended(Gain.FAILED, f"the program ended with it ({gone})")
    except EndsError as error:
        if AS_IT_IS[1] in error.names:
            return ended(Gain.LEFT, _base_ended(error.words))
        return ended(Gain.FAILED, str(error))
    except InputError as error:
        return ended(Gain.FAILED, str(error))
    except SpentError as spent:
        return ended(Gain.LEFT, str(spent))
    except LateError:
        return ended(Gain.LEFT, "the budget was spent")
    finally:
        if running:  # those of the base may be others by now
            base.instances = [running[row] for row in range(0, 2 * PAIRS, 2)]
        end_all([one for row, one in running.items() if row % 2])
        starts.keep_only(base.instances)


def _base_ended(words: str) -> str:
    return f"{AS_IT_IS[1]} ended ({words})"


def _fixes_of(running: Mapping[int, Instance], asked_until: float | None = None) -> list[FixFacts]:
    """What became of the fixes in each instance that has them.

    Args:
        running: the odd ones have them.
        asked_until: by `time.monotonic`, to ask anew; None for what they said once they were warm.
    """
    found = []
    for row, one in running.items():
        if not row % 2 or one.facts is None:
            continue
        fixes = one.facts.fixes
        if asked_until is not None:
            with suppress(LateError, GoneError):
                fixes = one.ask_fixes(asked_until)
        assert fixes is not None  # it was given some
        found.append(fixes)
    return found


def _held_against(found: Trial, base: AsItIs, seen: Sequence[FixFacts]) -> Trial:
    """A trial with what its instances say: whether it failed, and trains the same.

    Args:
        found: what is known so far.
        base: the program as it is.
        seen: of each instance with the fixes.
    """
    if not seen:  # those that were started anew are not warm yet
        return found
    failures = dict.fromkeys(reason for one in seen for reason in one.failures.values())
    if failures:
        return replace(found, refused=True, reason="; ".join(failures))
    likeness = base.likeness
    if likeness.same is True:
        likeness = compare_all(base.fixes, seen, found.fixes)
    took = [one.once_s for one in seen if one.once_s is not None]
    return replace(
        found,
        notes=seen[0].notes,
        same=likeness.same,
        reason=likeness.reason,
        once_s=max(took, default=None),
    )


def _judged(found: Trial, duel: Duel, spent_s: float) -> Tried:
    found = replace(found, measured_s=spent_s)
    kept = without_warm_up(duel.rounds)
    ratio = ratio_of(duel.rounds)
    if not duel.rounds and AS_IT_IS[1] in duel.late:
        words = f"no block of {AS_IT_IS[1]} ended within {duel.measured_s:.0f} s"
        return Tried(replace(found, gain=Gain.LEFT, reason=words), None, duel.restarts)
    if ratio is None and not duel.rounds:
        words = f"no block of it ended within {duel.measured_s:.0f} s: it hangs, or got very slow"
        return Tried(replace(found, gain=Gain.FAILED, reason=words), None, duel.restarts)
    if ratio is None:
        words = f"{len(duel.rounds)} blocks of each were measured, too few for an interval"
        return Tried(replace(found, gain=Gain.UNCLEAR, reason=words), None, duel.restarts)
    trial = replace(found, speedup=ratio.estimate, gain=gain_of(ratio))
    trial = replace(trial, pays_after=pays_after(trial.once_s, kept))
    return Tried(trial, mean_stage_ns([one.new for one in kept]), duel.restarts)


def pays_after(once_s: float | None, rounds: Sequence[Round]) -> int | None:
    """Steps until what a fix takes once is won back; None where that is not known, or never.

    Args:
        once_s: what it takes.
        rounds: those of the warm-up left out; both versions ran in them.
    """
    if once_s is None:
        return None
    compared = compared_rounds(rounds)
    won_ns = mean_step_ns([one.base for one in compared])
    won_ns -= mean_step_ns([one.new for one in compared])
    return math.ceil(once_s * 1e9 / won_ns) if won_ns > 0 else None


def ratio_of(rounds: Sequence[Round]) -> LogRatio | None:
    """How many times faster the fixed program is; None of too few rounds.

    Args:
        rounds: that were measured, with what lies between their steps: workers start there.
    """
    return speedup(without_warm_up(rounds))


def is_clear(ratio: LogRatio | None, rounds: int, *, is_fine: bool = False) -> bool:
    """Whether more measuring would change nothing about what to do.

    Args:
        ratio: how many times faster; None where that is not known yet.
        rounds: that it rests on.
        is_fine: whether a rough number will not do.
    """
    if ratio is None or rounds < LEAST_ROUNDS:
        return False
    high = ratio.estimate.high
    assert high is not None  # it is never without its interval
    reach = math.log(high) - ratio.center
    if reach <= CLEAR_LOG:
        return True
    if ratio.center + reach < WORTH_LOG:
        return True  # it is not worth a change, however much it loses
    is_rough = reach <= ROUGH_SHARE * ratio.center
    return is_rough and not is_fine and gain_of(ratio) is Gain.FASTER


def gain_of(ratio: LogRatio) -> Gain:
    """What a measured speedup means."""
    estimate = ratio.estimate
    assert estimate.high is not None  # likewise
    is_sure = ratio.beside(1.0, ERROR_RATE / len(LOOKS)) is Outcome.ABOVE
    if is_sure and ratio.center > WORTH_LOG:
        return Gain.FASTER
    if estimate.high < 1:
        return Gain.SLOWER
    return Gain.EQUAL if estimate.high < math.exp(WORTH_LOG) else Gain.UNCLEAR


def patience_s(start_s: float, fixes: Sequence[Fix], left_s: float) -> float:
    """How long a program with fixes may take until it is warm.

    Args:
        start_s: what it takes as it is.
        fixes: some of them take their time.
        left_s: of the budget.
    """
    wanted = max(LEAST_PATIENCE_S, PATIENCE * start_s)
    wanted += sum(_SLOW_S.get(fix.knob, 0.0) for fix in fixes)
    return max(0.1, min(wanted, _PART_OF_THE_REST * left_s))


def slot_s(step_ns: float, workers: int) -> float:
    """How long a trial may be measured: for at least so many rounds as a look needs.

    Args:
        step_ns: of the program as it is.
        workers: of its loader.
    """
    block_s = block_steps(step_ns, workers) * step_ns / 1e9
    # Four blocks a round, and one more of each at the beginning.
    return max(LEAST_SLOT_S, 1.5 * (4 * LEAST_ROUNDS + 2 * PAIRS) * block_s)
