"""Comparison -> tables."""

from ..schema.comparison import PairFindings, RankedRun, RunsComparison, TimeChange
from ..schema.findings import RunFindings
from ..schema.stage import STAGES
from .comparison_words import LONGEST_NAME
from .tables import Table, counted_steps
from .units import (
    ABSENT,
    milliseconds,
    one_line,
    plain_ratio,
    signed_milliseconds,
    signed_percent,
)
from .wording import verdict_title

_INTERVALS = (
    "Intervals are over blocks of steps and include what two processes of identical code differ by"
)


def comparison_table(found: RunsComparison) -> Table:
    """Stages and step of two runs, or all runs in the order of speed."""
    if found.pair is not None:
        return _pair_table(found.pair, found.runs)
    return _ranking_table(found)


def _pair_table(pair: PairFindings, runs: tuple[RunFindings, ...]) -> Table:
    base, new = (one_line(run.manifest.name, LONGEST_NAME) for run in runs)
    rows = [_row(stage.label, pair.stages[stage]) for stage in STAGES]
    rows.append(_row("step, mean", pair.mean))
    rows.append(_row("step, typical", pair.typical))
    if pair.per_sample is not None:
        rows.append(_row("sample, mean", pair.per_sample))
    return Table(
        title=f"Mean ms a step: {new} beside {base}",
        head=("stage", f"{base}, ms", f"{new}, ms", "change, ms", "part", "ratio (95 %)", "shows"),
        rows=tuple(rows),
        numbers=(False, True, True, True, True, True, False),
        note=(
            f"{ABSENT}: not observed. part: of the mean step's change. typical: the median step "
            f"of a typical block. {_INTERVALS}; each is right 95 % of the time by itself. "
            f"{_counts(runs)}"
        ),
    )


def _row(what: str, times: TimeChange | None) -> tuple[str, ...]:
    if times is None:
        return (what, *(ABSENT for _ in range(6)))
    return (
        what,
        ABSENT if times.base_ns is None else milliseconds(times.base_ns),
        ABSENT if times.new_ns is None else milliseconds(times.new_ns),
        signed_milliseconds(times.change_ns),
        ABSENT if times.part is None else signed_percent(times.part).removeprefix("+"),
        ABSENT if times.ratio is None else plain_ratio(times.ratio),
        ABSENT if times.change is None else times.change.value,
    )


def _ranking_table(found: RunsComparison) -> Table:
    head = ["run", "mean step, ms", "ratio to the fastest (95 %)", "letters", "verdict"]
    if found.by_sample:
        head.insert(2, "a sample, ms")
    return Table(
        title="Runs, the fastest first"
        + (": by the time of a sample, since the batches differ in size" * found.by_sample),
        head=tuple(head),
        rows=tuple(_ranked_row(found, ranked) for ranked in found.ranking),
        numbers=(False, *(True for _ in head[1:-2]), False, False),
        note=(
            "Runs that share a letter are not shown to differ (Welch's tests of all pairs over "
            f"blocks of steps, corrected for their number after Holm, at the 5 % level); {ABSENT}: "
            f"too few blocks to tell. {_INTERVALS}. {_counts(found.runs)}"
        ),
    )


def _ranked_row(found: RunsComparison, ranked: RankedRun) -> tuple[str, ...]:
    run = found.runs[ranked.run]
    mean = run.breakdown.mean_step_ns
    cells = [
        one_line(run.manifest.name, LONGEST_NAME),
        ABSENT if mean is None else milliseconds(mean.value),
        "1" if ranked.ratio is None else plain_ratio(ranked.ratio),
        ranked.letters or ABSENT,
        verdict_title(run.verdicts[0]),
    ]
    if found.by_sample:
        cells.insert(2, milliseconds(ranked.time_ns))
    return tuple(cells)


def _counts(runs: tuple[RunFindings, ...]) -> str:
    return "; ".join(
        f"{one_line(run.manifest.name, LONGEST_NAME)}: {counted_steps(run)}" for run in runs
    )
