"""Figures of a ladder, as SVG text that is the same for the same findings."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from .findings import RungFindings, epoch_s_of, times_faster

# The Okabe-Ito palette: tells the stages apart for colour-blind readers too.
COLOURS = {
    "dataloader": "#D55E00",
    "transfer": "#CC79A7",
    "forward": "#0072B2",
    "backward": "#56B4E9",
    "optimizer": "#009E73",
    "other": "#BBBBBB",
}
INK = "#333333"
LABELS = {"dataloader": "data wait"}
# Beside the colour, whose neighbours look alike where there are many rungs.
MARKERS = "osD^v"


def draw_rungs(found: Sequence[RungFindings], note: str) -> str:
    """A bar a rung: the whole training, and one epoch's training cut into its stages.

    Args:
        found: rungs in order.
        note: hardware, seeds, data and commit.
    """
    figure, (whole, epoch) = figure_of(2, 1.2 + 0.42 * len(found), note)
    names = [f"{one.rung.number} {one.rung.name}" for one in found]
    rows = range(len(found))
    medians = [float(np.median(one.seconds)) for one in found]
    whole.barh(rows, medians, height=0.6, color=INK)
    for row, median in zip(rows, medians, strict=True):
        whole.text(median, row, f" {median:.3g} s", va="center", fontsize=8)
    if scale_seconds(whole, medians):
        whole.set_xlim(min(medians) / 3, 3 * max(medians))
    else:
        whole.set_xlim(0, 1.2 * max(medians))
    whole.set_xlabel("whole training, s")
    whole.set_yticks(rows, names)
    shown: dict[str, object] = {}
    for row, one in zip(rows, found, strict=True):
        left = 0.0
        for stage, width in one.stages_s.items():
            if width is None:
                continue
            shown[stage] = epoch.barh(row, width, left=left, height=0.6, color=COLOURS[stage])
            left += width
        epoch.text(left, row, f" {one.step.kind}", va="center", fontsize=8)
    epoch.set_xlim(0, 1.5 * max(sum(filter(None, one.stages_s.values())) for one in found))
    epoch.set_xlabel("the recorded epoch, s, by stage")
    epoch.set_yticks(rows, [""] * len(found))
    for axes in (whole, epoch):
        axes.invert_yaxis()
    figure.legend(
        [*shown.values()],
        [LABELS.get(stage, stage) for stage in shown],
        loc="outside upper right",
        ncols=len(shown),
        fontsize=8,
        frameon=False,
    )
    return svg_of(figure)


def draw_accuracy(found: Sequence[RungFindings], aim: float, note: str) -> str:
    """Each training's time against its accuracy on the test images, and the one aimed at."""
    figure, (axes,) = figure_of(1, 4.2, note)
    for row, one in enumerate(found):
        colour = matplotlib.colormaps["viridis"](row / max(1, len(found) - 1))
        points = [100 * value for value in one.accuracies]
        name = f"{one.rung.number} {one.rung.name}"
        marker = MARKERS[row % len(MARKERS)]
        axes.scatter(one.seconds, points, s=24, color=colour, marker=marker, label=name)
    axes.axhline(100 * aim, color=INK, linewidth=0.8, linestyle="--")
    scale_seconds(axes, [second for one in found for second in one.seconds])
    axes.set_xlabel("whole training, s")
    axes.set_ylabel("test accuracy, %")
    figure.legend(loc="outside right", fontsize=8, frameon=False)
    return svg_of(figure)


def draw_forecasts(found: Sequence[RungFindings], note: str) -> str | None:
    """What was predicted of an epoch against what was measured; None without predictions."""
    pairs = [
        (one.before, one)
        for one in found
        if one.before is not None and one.forecast is not None and one.forecast.speedup is not None
    ]
    if not pairs:
        return None
    figure, (axes,) = figure_of(1, 4.2, note)
    for before, after in pairs:
        said = after.forecast
        assert said is not None  # chosen by that
        assert said.speedup is not None
        measured, *_ = times_faster(before.results, after.alone, epoch_s_of)
        low, high = said.low or said.speedup, said.high or said.speedup
        reach = [[max(0.0, said.speedup - low)], [max(0.0, high - said.speedup)]]
        axes.errorbar([measured], [said.speedup], yerr=reach, fmt="o", color="#0072B2", capsize=3)
        axes.annotate(
            f" {after.rung.number} {after.rung.name}", (measured, said.speedup), fontsize=8
        )
    ends = axes.get_xlim()
    axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle="--")
    axes.set_xlabel("speedup of an epoch, measured")
    axes.set_ylabel("predicted from the rung that is changed")
    return svg_of(figure)


def scale_seconds(axes: Axes, seconds: Sequence[float]) -> bool:
    """Put times that lie a decade or more apart on a logarithm's axis; return whether they do."""
    if max(seconds) < 10 * min(seconds):
        return False
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    return True


def figure_of(columns: int, height: float, note: str) -> tuple[Figure, list[Axes]]:
    """A figure of so many parts side by side, with a note below; the height is in inches."""
    figure = Figure(figsize=(9, height), layout="constrained")
    found = [figure.add_subplot(1, columns, column + 1) for column in range(columns)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(note, fontsize=6, color=INK)
    return figure, found


def svg_of(figure: Figure) -> str:
    """The figure as text that is the same for the same figure."""
    file = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "profkit", "svg.fonttype": "none"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    return file.getvalue()
