"""Assertions on measured loops that measure further until the data can tell, or time is over.

Each has three outcomes: it holds, it fails (`AssertionError`), or it is inconclusive, which warns
(`InconclusiveWarning`) unless the pytest plugin is told otherwise.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence

from . import terms
from .analyze.breakdown import active_rows
from .analyze.judging import (
    MEAN_ALLOWANCE,
    Judged,
    block_sums,
    judge_dominance,
    judge_ratio,
    judge_share,
    result_of,
    unrest,
)
from .analyze.quantity import Measurement, stage_named
from .analyze.statistics import error_of_look
from .errors import InconclusiveWarning, InputError
from .loop_lines import costliest_line
from .loops import Loop, bench
from .render import assertions as words
from .schema.ledger import Asserted, CostlyLine, Result
from .schema.stage import Stage
from .two_loops import Look, TwoLoops


def assert_share(
    measurement: Measurement,
    stage: str,
    *,
    below: float | None = None,
    above: float | None = None,
    rounds: int | None = None,
    timeout_s: float | None = None,
) -> None:
    """Assert that a stage's part of the step lies below a limit, or above one.

    Args:
        measurement: made by `measure`; measured further where the data cannot tell.
        stage: such as `dataloader`.
        below, above: 0 to 1; at least one of them.
        rounds: how often to look at the data, which double before each further look; 4 unless
            given, or what the marker says.
        timeout_s: the longest to go on measuring; likewise 60.

    Raises:
        AssertionError: the share lies on the other side of a limit.
        InputError: no such stage, or arguments that make no assertion.
        LookupError: the stage was not observed: absent is not zero.
    """
    __tracebackhide__ = True
    _check_measurement(measurement)
    chosen = stage_named(stage)
    _check_limits(below, above, highest=1.0)
    measurement.finding(stage)

    def look(error_rate: float) -> Look:
        sums = block_sums(measurement.table)
        judged = judge_share(sums, chosen, below, above, error_rate)
        return _found_of(measurement, judged, chosen, len(sums.wholes), [])

    claim = words.claim_of_share(measurement.name, chosen, below, above)
    _assert(claim, look, lambda deadline: _extend(measurement, deadline), rounds, timeout_s)


def assert_dominant(
    measurement: Measurement,
    stage: str,
    *,
    rounds: int | None = None,
    timeout_s: float | None = None,
) -> None:
    """Assert that a stage's part of the step is larger than that of every other stage.

    Args:
        measurement, stage, rounds, timeout_s: see `assert_share`.

    Raises:
        AssertionError: another stage's part is larger.
        InputError, LookupError: see `assert_share`.
    """
    __tracebackhide__ = True
    _check_measurement(measurement)
    chosen = stage_named(stage)
    measurement.finding(stage)

    def look(error_rate: float) -> Look:
        sums = block_sums(measurement.table)
        judged, runner_up = judge_dominance(sums, chosen, error_rate)
        facts, costly = [], chosen
        if runner_up is not None:
            finding = measurement.finding(runner_up.value)
            facts.append(words.runner_up_words(runner_up, finding.share))
            costly = runner_up
        return _found_of(measurement, judged, chosen, len(sums.wholes), facts, costly)

    claim = words.claim_of_dominance(measurement.name, chosen)
    _assert(claim, look, lambda deadline: _extend(measurement, deadline), rounds, timeout_s)


def assert_ratio(
    new: Measurement,
    base: Measurement,
    *,
    below: float | None = None,
    above: float | None = None,
    stage: str | None = None,
    mean_below: float | None = None,
    rounds: int | None = None,
    timeout_s: float | None = None,
) -> None:
    """Assert that a step takes less than so many times what it takes in another loop, or more.

    Both loops are run again, in short blocks and random order. A typical step (a low quantile) is
    held against `below` and `above`; the mean, in which rare slow steps count, may not lie above
    `mean_below` either. Loops that cannot be run again are compared by the means that were
    measured of each.

    Args:
        new, base: made by `measure`.
        below, above: limits of new over base; at least one of them.
        stage: compare this stage alone.
        mean_below: 1.1 times `below` unless given.
        rounds, timeout_s: see `assert_share`.

    Raises:
        AssertionError: the ratio lies on the other side of a limit.
        InputError: see `assert_share`.
        LookupError: the stage was not observed in one of them.
    """
    __tracebackhide__ = True
    _check_measurement(new)
    _check_measurement(base)
    chosen = None if stage is None else stage_named(stage)
    _check_limits(below, above)
    if mean_below is None and below is not None:
        mean_below = below * MEAN_ALLOWANCE
    if mean_below is not None and not terms.is_positive(mean_below):
        raise InputError(f"mean_below={mean_below!r}: the limit must be a number above 0")
    if chosen is not None:
        for one in (new, base):
            one.finding(chosen.value)
    loops = TwoLoops(new, base)

    def look(error_rate: float) -> Look:
        measured = loops.measured()
        judged = judge_ratio(measured, chosen, below, above, mean_below, error_rate)
        return loops.found(measured, judged, chosen)

    claim = words.claim_of_ratio(new.name, base.name, chosen, below, above)
    _assert(claim, look, loops.extend, rounds, timeout_s, begins_empty=True)


def _assert(
    claim: str,
    look: Callable[[float], Look],
    extend: Callable[[float], bool],
    rounds: int | None,
    timeout_s: float | None,
    *,
    begins_empty: bool = False,
) -> None:
    """Look at the data, and measure further, until they tell; then say so.

    Args:
        claim: in words.
        look: judges what there is, at an error rate.
        extend: measures further, up to a moment of `time.monotonic`; whether it could.
        rounds, timeout_s: the terms' own unless given.
        begins_empty: whether the first look needs something measured for it.
    """
    __tracebackhide__ = True
    now = terms.current()
    rounds = now.rounds if rounds is None else rounds
    timeout_s = now.timeout_s if timeout_s is None else timeout_s
    if not (terms.is_count(rounds) and terms.is_positive(timeout_s)):
        raise InputError(
            f"rounds={rounds!r}, timeout_s={timeout_s!r}: rounds must be a whole number from 1, "
            "timeout_s a positive number of seconds"
        )
    began = time.monotonic()
    deadline = began + timeout_s
    spent = 0.0
    if begins_empty and extend(deadline):
        spent = time.monotonic() - began
    for looks in range(1, rounds + 1):
        found = look(error_of_look(rounds))
        result = result_of(found.judged)
        undecided = any(not one.is_decided for one in found.judged)
        if result is Result.FAILED or not undecided or looks == rounds:
            break
        if time.monotonic() >= deadline or not extend(deadline):
            break
        spent = time.monotonic() - began
    line = None
    if result is Result.FAILED and found.stage is not None:
        line = words.line_words(_line(found), found.stage)
    now.note(
        Asserted(
            test="",
            claim=claim,
            result=result,
            decisions=tuple(one.decision for one in found.judged),
            steps=found.steps,
            blocks=found.blocks,
            looks=looks,
            measured_s=spent,
            line=line,
            notes=tuple(found.notes),
        )
    )
    if result is Result.PASSED:
        return
    counts = words.counts_words(found.steps, found.blocks, found.unit, looks, spent)
    text = words.message(
        claim,
        found.judged,
        counts,
        [*found.facts, *found.notes],
        line,
        inconclusive=result is Result.INCONCLUSIVE,
    )
    if result is Result.FAILED:
        raise AssertionError(text)
    if now.inconclusive is not None:
        now.inconclusive(text)
    else:
        warnings.warn(text, InconclusiveWarning, stacklevel=3)


def _line(found: Look) -> CostlyLine | str:
    if not isinstance(found.loop, Loop) or found.stage is None:
        return "the loop is not at hand"
    return costliest_line(found.loop, found.stage)


def _found_of(
    measurement: Measurement,
    judged: list[Judged],
    stage: Stage,
    blocks: int,
    facts: Sequence[str],
    costly: Stage | None = None,
) -> Look:
    cost, step = measurement.cost(stage.value), measurement.step_time
    return Look(
        judged=judged,
        stage=costly or stage,
        loop=measurement.loop,
        steps=(measurement.steps,),
        blocks=blocks,
        unit="block",
        facts=[words.stage_words(stage, cost.value, step.value), *facts],
        notes=words.unrest_words(unrest(measurement.table)) + words.gap_words(measurement.gaps),
    )


def _extend(measurement: Measurement, deadline_s: float) -> bool:
    """As many steps again; whether any was added."""
    loop = measurement.loop
    if not isinstance(loop, Loop) or loop.spent:
        return False
    with bench(loop) as place:
        deadline = place.deadline_ns(max(0.0, deadline_s - time.monotonic()))
        workers = loop.workers  # the first batches of new workers are late
        table = loop.run(place, measurement.steps + workers, deadline, warmup=workers)
    if active_rows(table, drained=True).size == 0:
        return False
    measurement.add(table)
    return True


def _check_measurement(given: object) -> None:
    """Raise `InputError` for what is none."""
    __tracebackhide__ = True
    if not isinstance(given, Measurement):
        raise InputError(
            f"a {type(given).__name__} is no measurement: give what profkit.measure returned"
        )


def _check_limits(below: float | None, above: float | None, highest: float = math.inf) -> None:
    """Raise `InputError` for limits that make no assertion."""
    __tracebackhide__ = True
    given = [one for one in (below, above) if one is not None]
    if not given:
        raise InputError("no limit: give below=, above= or both")
    if any(not terms.is_positive(one) or one > highest for one in given):
        most = "" if math.isinf(highest) else f" and at most {highest:g}: 20 % is 0.2"
        raise InputError(f"below={below!r}, above={above!r}: limits must be numbers above 0{most}")
    if below is not None and above is not None and above >= below:
        raise InputError(f"below={below}, above={above}: nothing lies in between")
