"""Tables as rows of text, for whatever draws them."""

from dataclasses import dataclass

from ..diagnose import policy
from ..schema.drilldown import Drilldown
from ..schema.findings import Breakdown, Report, RunFindings
from ..schema.stage import STAGES, Stage
from .units import ABSENT, duration, milliseconds, one_line, percent, percent_interval, plural

PROBE_TITLES = {
    "samples": "costliest places (stack samples in the light pass)",
    "torch": "costliest operators (torch.profiler)",
    "stacks": "costliest stacks (py-spy)",
    "lines": "costliest lines (line_profiler)",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A head, rows of as many cells, and which columns are numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    note: str | None = None


def stage_table(report: Report) -> Table:
    """The stages of all runs side by side."""
    head = ["stage"]
    for run in report.runs:
        head += [f"{one_line(run.manifest.name, 30)}, ms", "IQR", "share (95 %)"]
    rows = [
        (stage.label, *(cell for run in report.runs for cell in _cells(run.breakdown, stage)))
        for stage in STAGES
    ]
    rows.append(("step", *(cell for run in report.runs for cell in _step_cells(run.breakdown))))
    return Table(
        title="Stages: median ms a step, quartile distance (IQR), share of the summed time",
        head=tuple(head),
        rows=tuple(rows),
        numbers=(False, *(True for _ in head[1:])),
        note=f"{ABSENT}: not observed. "
        + "; ".join(
            f"{one_line(run.manifest.name, 30)}: {counted_steps(run)}" for run in report.runs
        ),
    )


def counted_steps(run: RunFindings) -> str:
    """How many steps count, how many do not and why, and whether they are noisy."""
    breakdown = run.breakdown
    text = plural(0 if breakdown.steps is None else breakdown.steps.count, "step")
    left_out = {
        "warm-up": breakdown.warmup,
        "disturbed": breakdown.disturbed,
        "partial": breakdown.partial,
        "compiling": breakdown.compiled,
        "interrupted": breakdown.interrupted,
    }
    parts = [f"{count} {reason}" for reason, count in left_out.items() if count]
    text += f" (left out: {', '.join(parts)})" if parts else ""
    text += _apart(run)
    steps = breakdown.steps
    if steps is not None and steps.iqr > policy.NOISY_IQR_SHARE * steps.median:
        text += f", noisy: IQR {percent(steps.iqr / steps.median)} of the median"
    return text


def _apart(run: RunFindings) -> str:
    """What took time beside the training steps."""
    count, taken_ns = run.breakdown.evaluation, run.breakdown.evaluation_ns
    words = []
    for apart in run.manifest.apart:
        if apart.kind == "evaluation":
            count, taken_ns = count + apart.count, taken_ns + apart.total_ns
        else:
            words.append(f"{plural(apart.count, apart.kind)} {duration(apart.total_ns)}")
    if count:
        words.insert(0, f"{plural(count, 'evaluation batch', 'es')} {duration(taken_ns)}")
    return f"; apart: {', '.join(words)}" if words else ""


def _cells(breakdown: Breakdown, stage: Stage) -> tuple[str, str, str]:
    finding = breakdown.stages[stage]
    if finding is None:
        return ABSENT, ABSENT, ABSENT
    return (
        milliseconds(finding.median_ns),
        milliseconds(finding.iqr_ns),
        percent_interval(finding.share),
    )


def _step_cells(breakdown: Breakdown) -> tuple[str, str, str]:
    if breakdown.steps is None:
        return ABSENT, ABSENT, ABSENT
    return milliseconds(breakdown.steps.median), milliseconds(breakdown.steps.iqr), "100 %"


def drilldown_table(found: Drilldown) -> Table:
    """One probe's costliest places of one stage."""
    what = PROBE_TITLES.get(found.probe, found.probe)
    title = f"{found.stage.label}: {what}, {plural(found.steps, 'step')}"
    timed = any(cost.self_ns is not None for cost in found.costs)
    # A sampler's only figure is its count; a timer has both.
    head = ("share", *(("ms a step", "count") if timed else ("samples",)), "where", "what")
    rows = []
    for cost in found.costs:
        amounts: tuple[str, ...] = (str(cost.count),)
        if timed:
            each = (cost.self_ns or 0) / max(1, found.steps)
            amounts = (milliseconds(each), str(cost.count))
        place = one_line(cost.source or ABSENT, 80)
        what = one_line(cost.name, 70)
        if cost.context:
            what += f" ({one_line(cost.context, 110)})"
        rows.append((percent(cost.share), *amounts, place, what))
    numbers = tuple(name not in ("what", "where") for name in head)
    return Table(title, head, tuple(rows), numbers, found.gap or found.note)
