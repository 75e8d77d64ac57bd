"""Report -> figures, as SVG text that is the same for the same report."""

import io
import warnings

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from ..schema.findings import Report, RunFindings
from ..schema.stage import STAGES, Stage
from ..schema.steps import MarkTable
from .units import milliseconds, one_line, percent

# The Okabe-Ito palette: tells the stages apart for colour-blind readers too.
COLOURS = {
    Stage.DATALOADER: "#D55E00",
    Stage.TRANSFER: "#CC79A7",
    Stage.FORWARD: "#0072B2",
    Stage.BACKWARD: "#56B4E9",
    Stage.OPTIMIZER: "#009E73",
    Stage.OTHER: "#BBBBBB",
}
_TIMELINE_STEPS = 6


def draw_stage_bars(report: Report) -> str | None:
    """A bar a run, as long as its mean step, cut into its stages; None without steps."""
    runs = [run for run in report.runs if run.breakdown.steps is not None]
    if not runs:
        return None
    figure = Figure(figsize=(8, 1.1 + 0.7 * len(runs)), layout="constrained")
    axes = figure.add_subplot()
    longest = max(_mean_ms(run) for run in runs)
    for row, run in enumerate(runs):
        left = 0.0
        for stage in STAGES:
            finding = run.breakdown.stages[stage]
            if finding is None:
                continue
            width = finding.share.value * _mean_ms(run)
            axes.barh(row, width, left=left, height=0.6, color=COLOURS[stage])
            if width > 0.08 * longest:
                text = f"{stage.label}\n{percent(finding.share.value)}"
                axes.text(left + width / 2, row, text, ha="center", va="center", fontsize=8)
            left += width
        axes.text(left + 0.01 * longest, row, f"{milliseconds(left * 1e6)} ms", va="center")
    names = [one_line(run.manifest.name, 20) for run in runs]
    axes.set_yticks(range(len(runs)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * longest)
    axes.set_xlabel("mean step, ms")
    _legend(figure, {stage for run in runs for stage in STAGES if run.breakdown.stages[stage]})
    return _svg(figure)


def draw_timeline(run: RunFindings) -> str | None:
    """What a few consecutive steps went through, to scale; None without sampled steps."""
    marks = run.marks
    if len(marks) == 0:
        return None
    first, last = _consecutive(marks)
    shown = (marks.step >= first) & (marks.step <= last)
    figure = Figure(figsize=(8, 1.6), layout="constrained")
    axes = figure.add_subplot()
    origin = int(marks.start_ns[shown].min())
    for index, stage in enumerate(STAGES):
        rows = shown & (marks.stage == index)
        starts_ms = (marks.start_ns[rows] - origin) / 1e6
        widths_ms = (marks.end_ns[rows] - marks.start_ns[rows]) / 1e6
        spans = list(zip(starts_ms.tolist(), widths_ms.tolist(), strict=True))
        axes.broken_barh(spans, (0, 1), facecolors=COLOURS[stage])
    for step in range(first, last + 1):
        begin = (int(marks.start_ns[marks.step == step].min()) - origin) / 1e6
        axes.axvline(begin, color="black", linewidth=0.6)
    axes.set_yticks([])
    name = one_line(run.manifest.name, 20)
    axes.set_xlabel(f"ms; steps {first} to {last} of {name}", parse_math=False)
    _legend(figure, {STAGES[index] for index in np.unique(marks.stage[shown]).tolist()})
    return _svg(figure)


def _consecutive(marks: MarkTable) -> tuple[int, int]:
    """First and last of up to six sampled steps that followed each other without a break.

    Another run's block, or steps that were not sampled, may lie between two of them; the last
    of the longest stretches is taken, past the warm-up.
    """
    steps = np.unique(marks.step)
    begins = np.array([marks.start_ns[marks.step == step].min() for step in steps])
    ends = np.array([marks.end_ns[marks.step == step].max() for step in steps])
    apart = (np.diff(steps) > 1) | (begins[1:] - ends[:-1] > 0.2 * (ends - begins)[:-1])
    lengths = np.ones(steps.size, np.int64)
    for row in range(1, steps.size):
        lengths[row] = 1 if apart[row - 1] else min(lengths[row - 1] + 1, _TIMELINE_STEPS)
    row = int(np.flatnonzero(lengths == lengths.max())[-1])
    return int(steps[row - lengths[row] + 1]), int(steps[row])


def _mean_ms(run: RunFindings) -> float:
    mean = run.breakdown.mean_step_ns
    assert mean is not None  # there are steps, so there is a mean
    return mean.value / 1e6


def _legend(figure: Figure, stages: set[Stage]) -> None:
    shown = [stage for stage in STAGES if stage in stages]
    patches = [matplotlib.patches.Patch(color=COLOURS[stage], label=stage.label) for stage in shown]
    figure.legend(handles=patches, loc="outside upper center", ncols=len(shown), frameon=False)


def _svg(figure: Figure) -> str:
    with (
        matplotlib.rc_context({"svg.hashsalt": "profkit", "svg.fonttype": "none"}),
        warnings.catch_warnings(),
    ):
        # The reader's fonts have the letters of a name that matplotlib's own has not.
        warnings.simplefilter("ignore", UserWarning)
        FigureCanvasSVG(figure)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": "profkit"})
    # No trailing spaces: a committed figure passes whitespace checks.
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines()) + "\n"
