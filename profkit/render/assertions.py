"""Assertions in words: what was asserted, what was measured, and what else to know."""

import math
from collections.abc import Sequence

from ..analyze.judging import Judged, Unrest
from ..schema.decision import Decision, Outcome
from ..schema.estimate import Estimate
from ..schema.ledger import CostlyLine
from ..schema.stage import Stage
from .units import duration, one_line, percent, plural, significant

NAME_WIDTH = 60
_TEXT_WIDTH = 90
_MANY_OUTLIERS = 0.1
"""Part of the blocks from which outliers are worth a note."""


def number(value: float, unit: str) -> str:
    """A value in the unit of its decision."""
    if math.isnan(value):
        return "not known"
    if unit == "share":
        return f"{significant(100 * value)} %"
    # Near 1 what counts is the distance to it.
    return f"{value:.3f}×" if 0.5 <= value < 2 else f"{significant(value)}×"


def limit_words(limit: float, unit: str) -> str:
    """A limit as it was given."""
    # Three digits would make 1.001 a limit of 1.
    return f"{100 * limit:.5g} %" if unit == "share" else f"{limit:.5g}×"


def measured_words(estimate: Estimate, unit: str) -> str:
    """A value with its 95 % interval."""
    text = number(estimate.value, unit)
    if estimate.low is None or estimate.high is None:
        return f"{text} (no interval: {plural(estimate.blocks, 'block')})"
    low = number(estimate.low, unit).rstrip(" %×")
    return f"{text} (95 % interval {low} to {number(estimate.high, unit)})"


def decision_words(decision: Decision, wanted: Outcome) -> str:
    """What is measured, and the limit that it should keep."""
    limit = limit_words(decision.limit, decision.unit)
    value = measured_words(decision.estimate, decision.unit)
    return f"{decision.what}: {value}, should be {wanted.value} {limit}"


def claim_of_share(name: str, stage: Stage, below: float | None, above: float | None) -> str:
    """What `assert_share` asserts."""
    return f"share of {stage.value} in {_name(name)} {_limits(below, above, 'share')}"


def claim_of_dominance(name: str, stage: Stage) -> str:
    """What `assert_dominant` asserts."""
    return f"{stage.value} dominates the step of {_name(name)}"


def claim_of_ratio(
    new: str, base: str, stage: Stage | None, below: float | None, above: float | None
) -> str:
    """What `assert_ratio` asserts; loops of one name are told apart by their parts in it."""
    of = "step" if stage is None else stage.value
    parts = (" (new)", " (base)") if new == base else ("", "")
    over = f"{_name(new)}{parts[0]} over {_name(base)}{parts[1]}"
    return f"{of} of {over} {_limits(below, above, 'ratio')}"


def message(
    claim: str,
    judged: Sequence[Judged],
    counts: str,
    facts: Sequence[str],
    line: str | None,
    *,
    inconclusive: bool = False,
) -> str:
    """What a failing or inconclusive assertion says, in a few lines."""
    head = f"{claim}: {'the data cannot tell' if inconclusive else 'does not hold'}"
    rows = [
        f"{decision_words(one.decision, one.wanted)}{_mark(one, inconclusive)}" for one in judged
    ]
    rows += [f"n: {counts}", *facts]
    if line is not None:
        rows.append(f"costliest line: {line}")
    return "\n".join([f"profkit: {head}", *(f"  {row}" for row in rows)])


def counts_words(steps: Sequence[int], blocks: int, unit: str, looks: int, spent_s: float) -> str:
    """How much data it rests on."""
    of = " and ".join(plural(count, "step") for count in steps)
    noun, space, rest = unit.partition(" ")
    text = f"{of} in {plural(blocks, noun)}{space}{rest}, {plural(looks, 'look')}"
    return f"{text}, {duration(spent_s * 1e9)} of further measuring" if spent_s else text


def stage_words(stage: Stage, stage_ns: float, step_ns: float) -> str:
    """What a stage takes in a step."""
    return f"stage {stage.label}: {duration(stage_ns)} of a step of {duration(step_ns)}"


def change_words(stage: Stage, new_ns: float, base_ns: float) -> str:
    """The stage that explains a ratio."""
    change = new_ns - base_ns
    way = "more" if change > 0 else "less"
    return (
        f"stage {stage.label} explains most: {duration(new_ns)} a step, {duration(abs(change))} "
        f"{way} than {duration(base_ns)}"
    )


def runner_up_words(stage: Stage, share: Estimate) -> str:
    """The largest of the other stages."""
    return f"runner-up: {stage.label} with {measured_words(share, 'share')}"


def line_words(line: CostlyLine | str, stage: Stage) -> str:
    """Where a stage spends its time, or why that is not known."""
    if isinstance(line, str):
        return f"not known ({one_line(line)})"
    text = f": {one_line(line.text, _TEXT_WIDTH)}" if line.text else ""
    if line.caller is not None:
        text += f", from {one_line(line.caller, 80)}"
    seen = f"{percent(line.share)} of {plural(line.samples, 'sample')} of {stage.label}"
    return f"{one_line(line.source, 80)} in {one_line(line.function, 60)}{text} ({seen})"


def unrest_words(found: Unrest, what: str = "block", of: str | None = None) -> list[str]:
    """Drift and outliers, where there are any; `of` names the loop where there are two."""
    notes = []
    whose = "" if of is None else f" of {_name(of)}"
    if found.drift is not None:
        way = "longer" if found.drift > 0 else "shorter"
        notes.append(f"drift: steps{whose} grew {percent(abs(found.drift))} {way} while measured")
    if found.outliers > _MANY_OUTLIERS * found.blocks:
        notes.append(f"outliers: {found.outliers} of {plural(found.blocks, what)}{whose}")
    return notes


def gap_words(gaps: Sequence[str]) -> list[str]:
    """What could not be seen, each once."""
    return [f"not seen: {one_line(gap, 2 * _TEXT_WIDTH)}" for gap in dict.fromkeys(gaps)]


def _limits(below: float | None, above: float | None, unit: str) -> str:
    parts = [] if below is None else [f"below {limit_words(below, unit)}"]
    parts += [] if above is None else [f"above {limit_words(above, unit)}"]
    return " and ".join(parts)


def _mark(one: Judged, inconclusive: bool) -> str:
    if one.has_failed:
        return ": fell"
    if inconclusive and not one.is_decided and not one.guards:
        return ": cannot tell"
    return ""


def _name(name: str) -> str:
    return one_line(name, NAME_WIDTH)
