"""Accuracies over many seeds -> Markdown, and a figure."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..measured import mean_interval
from .figures import INK, figure_of, svg_of
from .ladder_report import mean_and_deviation


def render_seeds(found: Mapping[str, Sequence[float]], aims: Mapping[str, float]) -> list[str]:
    """A table of accuracies on the test images, as Markdown.

    Args:
        found: accuracies by rung's name, 0 to 1, one a seed.
        aims: by rung's name, what its ladder is about.
    """
    lines = [
        "| rung | seeds | mean, % (sd) | 95 % interval of the mean | lowest | highest "
        "| seeds that reach the aim |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, values in found.items():
        reached = sum(value >= aims[name] for value in values)
        lines.append(
            f"| {name} | {len(values)} | {mean_and_deviation(values)} | {_interval(values)} "
            f"| {100 * min(values):.2f} | {100 * max(values):.2f} "
            f"| {reached} of {len(values)} reach {100 * aims[name]:g} % |"
        )
    return [*lines, ""]


def _interval(values: Sequence[float]) -> str:
    """By Student's t; seeds are independent."""
    _, low, high = mean_interval(values)
    return "–" if math.isnan(low) else f"{100 * low:.2f} to {100 * high:.2f}"


def draw_seeds(found: Mapping[str, Sequence[float]], note: str) -> str:
    """A dot a seed, and each rung's mean, as SVG text."""
    figure, (axes,) = figure_of(1, 1.2 + 0.4 * len(found), note)
    for row, values in enumerate(found.values()):
        percents = [100 * value for value in values]
        axes.scatter(percents, [row] * len(percents), s=14, alpha=0.5, color="#0072B2")
        axes.scatter([float(np.mean(percents))], [row], marker="|", s=260, color=INK)
    axes.set_yticks(range(len(found)), list(found))
    axes.invert_yaxis()
    axes.set_xlabel("test accuracy, %: a dot a seed, a line the mean")
    return svg_of(figure)
