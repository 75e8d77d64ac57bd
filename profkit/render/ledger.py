"""A test run's ledger as lines for a terminal."""

from collections.abc import Sequence

from ..analyze.since_saved import Change
from ..schema.estimate import Estimate
from ..schema.ledger import Asserted, Ledger, Measured, Result
from ..schema.stage import STAGES, Stage
from .assertions import measured_words, number
from .units import ABSENT, milliseconds, one_line, percent, plural

_WIDTH = 60
_MARKS = {Result.PASSED: "ok", Result.FAILED: "FAILED", Result.INCONCLUSIVE: "inconclusive"}
_UNKNOWN_SHOWN = 5
"""Measurements without a saved one that are named."""


def ledger_lines(ledger: Ledger) -> list[str]:
    """What was measured, and what was asserted of it."""
    lines: list[str] = []
    if ledger.measured:
        head = ["measured", "steps", "ms a step (95 %)", *(stage.label for stage in STAGES)]
        lines += _table([head, *(_row(one) for one in ledger.measured)])
    if ledger.asserted:
        lines += ["", *_table([["asserted", "", "measured", "n"], *map(_claim, ledger.asserted)])]
    return lines


def change_lines(
    changes: Sequence[Change],
    unknown: Sequence[str],
    differences: Sequence[str],
    commit: str | None,
) -> list[str]:
    """Measurements beside saved ones.

    Args:
        changes: see `analyze.since_saved`.
        unknown: measurements that were not saved.
        differences: in what the two machines and their software differ, in sentences.
        commit: that the saved ones were measured at.
    """
    lines = [] if commit is None else [f"saved at commit {one_line(commit, 30)}"]
    if differences:
        said = "; ".join(one_line(one, 90) for one in differences)
        lines.append(f"not the same place, so times may differ for that alone: {said}")
    if changes:
        head = ["", "what", "ms now", "ms then", "ratio (95 %)"]
        lines += _table([head, *(_change(one) for one in changes)])
        lines.append(
            "ratios hold between two processes that ran one after the other; the machine's own "
            "change in between is not in them"
        )
    if unknown:
        named = ", ".join(one_line(one, _WIDTH) for one in unknown[:_UNKNOWN_SHOWN])
        more = len(unknown) - _UNKNOWN_SHOWN
        lines.append(f"not saved: {named}{f' and {more} more' if more > 0 else ''}")
    return lines


def _row(one: Measured) -> list[str]:
    step = milliseconds(one.step_ns.value)
    if one.step_ns.low is not None and one.step_ns.high is not None:
        step += f" ({milliseconds(one.step_ns.low)} to {milliseconds(one.step_ns.high)})"
    shares = [one.shares.get(stage.value) for stage in STAGES]
    cells = [ABSENT if share is None else percent(share.value) for share in shares]
    return [_where(one.test, one.name), str(one.steps), step, *cells]


def _claim(one: Asserted) -> list[str]:
    seen = [
        measured_words(each.estimate, each.unit)
        if each.estimate.low is not None
        else number(each.estimate.value, each.unit)
        for each in one.decisions[:1]
    ]
    steps = " and ".join(str(count) for count in one.steps)
    return [
        f"{_MARKS[one.result]}: {one_line(one.claim, 2 * _WIDTH)}",
        one_line(_test(one.test), _WIDTH),
        *seen,
        f"{steps} steps, {plural(one.looks, 'look')}",
    ]


def _change(one: Change) -> list[str]:
    what = "step" if one.what == "step" else Stage(one.what).label
    times = [ABSENT if ns is None else milliseconds(ns) for ns in (one.new_ns, one.base_ns)]
    return [_where(one.test, one.name), what, *times, _ratio(one.ratio)]


def _ratio(ratio: Estimate | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return ABSENT
    value, low, high = (
        number(each, "ratio").rstrip("×") for each in (ratio.value, ratio.low, ratio.high)
    )
    return f"{value} ({low} to {high})"


def _where(test: str, name: str) -> str:
    return one_line(f"{_test(test)} {name}", _WIDTH)


def _test(test: str) -> str:
    """The test without its file's directories."""
    file, colons, rest = test.partition("::")
    return f"{file.rpartition('/')[2]}{colons}{rest}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns wide enough for all rows: the first one to the left, the others to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        first, *others = row
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines
