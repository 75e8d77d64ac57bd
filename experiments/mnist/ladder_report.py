"""Findings of a ladder -> Markdown."""

from collections.abc import Mapping, Sequence

import numpy as np

from .dominance import Dominance
from .figures import LABELS
from .findings import RungFindings, epoch_s_of


def median_and_quartiles(values: Sequence[float]) -> str:
    """Such as `6.2 (5.9 to 6.8)`; the value alone where there is one."""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{median:.3g} ({low:.3g} to {high:.3g})"


def mean_and_deviation(accuracies: Sequence[float]) -> str:
    """In percent, such as `99.07 (0.05)`."""
    mean = f"{100 * np.mean(accuracies):.2f}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} ({100 * np.std(accuracies, ddof=1):.2f})"


def render(found: Sequence[RungFindings]) -> list[str]:
    """The report's tables, without its head and its figures.

    Args:
        found: some rungs of a ladder, in order.
    """
    return [
        *_times(found),
        *_steps(found),
        *_forecasts(found),
        *_isolated(found),
        *_declarations(found),
    ]


def render_dominance(found: Mapping[str, Dominance]) -> list[str]:
    """What it takes for data loading to hold half of the step, as Markdown; nothing of nothing.

    Args:
        found: by rung's name, of those that a DataLoader feeds.
    """
    if not found:
        return []
    lines = [
        "## What it takes for data loading to hold half of the step",
        "",
        "The same batches before a network that computes faster: predicted by what-if, from one "
        "recorded epoch each.",
        "",
        "| rung | data wait, % of the step | forward and backward must be faster by "
        "| the step then is |",
        "|---|---:|---:|---:|",
    ]
    for name, one in found.items():
        times = "no speed does" if one.times is None else f"{one.times:.3g}×"
        then = "unknown" if one.speedup is None else f"{one.speedup:.3g}× faster"
        if one.times == 1:
            times = then = "it does here"
        lines.append(f"| {name} | {100 * one.wait_share:.1f} | {times} | {then} |")
    return [*lines, ""]


def _times(found: Sequence[RungFindings]) -> list[str]:
    first = float(np.median(found[0].seconds))
    lines = [
        "## Time to the end of each training",
        "",
        "Seconds on the rung's own clock, to the accuracy of the last test: median (quartiles). "
        "Each training is a process of its own, and the seeds take turns over the rungs.",
        "",
        "| rung | s | seeds | times faster than the one before | than the first | epochs | "
        "test accuracy, % (sd) | published, s |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    before: float | None = None
    for one in found:
        median = float(np.median(one.seconds))
        epochs = sorted(set(one.epochs))
        counted = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        published = one.rung.published_s
        lines.append(
            f"| {one.rung.number} {one.rung.name} | {median_and_quartiles(one.seconds)} "
            f"| {len(one.results)} | {'–' if before is None else f'{before / median:.2f}'} "
            f"| {first / median:.3g} | {counted} | {mean_and_deviation(one.accuracies)} "
            f"| {'–' if published is None else f'{published:g}'} |"
        )
        before = median
    return [*lines, ""]


def _steps(found: Sequence[RungFindings]) -> list[str]:
    stages = list(found[0].step.stage_shares)
    lines = [
        "## What profkit says of each step, before the next change",
        "",
        "Of one epoch of each rung under `profkit run`.",
        "",
        "| rung | ms a step | "
        + " | ".join(f"{LABELS.get(stage, stage)}, %" for stage in stages)
        + " | verdict |",
        "|---|---:|" + "---:|" * len(stages) + "---|",
    ]
    for one in found:
        shares = " | ".join(
            "–" if share is None else f"{100 * share:.1f}"
            for share in one.step.stage_shares.values()
        )
        lines.append(
            f"| {one.rung.number} {one.rung.name} | {one.step.mean_ms:.3g} | {shares} "
            f"| {one.step.verdict} |"
        )
    return [*lines, ""]


def _forecasts(found: Sequence[RungFindings]) -> list[str]:
    lines = [
        "## Predicted before, and measured after",
        "",
        "How many times faster training one epoch becomes: what `profkit what-if` says from the "
        "recorded epoch of the rung before, and what was measured (medians over all epochs of all "
        "seeds). Riders are no part of a prediction.",
        "",
        "| change | predicted (95 %) | measured | epoch before, s | after, s | asked |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for before, after in zip(found, found[1:], strict=False):
        said = after.forecast
        if said is None:
            continue
        predicted = "unknown"
        if said.speedup is not None:
            predicted = f"{said.speedup:.2f}"
            if said.low is not None and said.high is not None and said.low < said.high:
                predicted += f" ({said.low:.2f} to {said.high:.2f})"
        lines.append(
            f"| {after.rung.name} | {predicted} | {before.epoch_s / after.epoch_s:.2f} "
            f"| {before.epoch_s:.3g} | {after.epoch_s:.3g} | {said.basis} |"
        )
    return [*lines, ""]


def _isolated(found: Sequence[RungFindings]) -> list[str]:
    pairs = [
        (before, after)
        for before, after in zip(found, found[1:], strict=False)
        if after.isolated and after.rung.number == before.rung.number + 1
    ]
    if not pairs:
        return []
    lines = [
        "## What the changes give without their riders",
        "",
        "| rung | s before | change alone, s | with riders, s | epoch before, s | change alone, s "
        "| with riders, s | test accuracy alone, % (sd) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for before, after in pairs:
        alone = [one.training.seconds for one in after.isolated]
        reached = [one.training.accuracy for one in after.isolated]
        lines.append(
            f"| {after.rung.number} {after.rung.name} | {median_and_quartiles(before.seconds)} "
            f"| {median_and_quartiles(alone)} | {median_and_quartiles(after.seconds)} "
            f"| {before.epoch_s:.3g} | {epoch_s_of(after.isolated):.3g} | {after.epoch_s:.3g} "
            f"| {mean_and_deviation(reached)} |"
        )
    return [*lines, ""]


def _declarations(found: Sequence[RungFindings]) -> list[str]:
    lines = ["## What each rung changes", ""]
    for one in found:
        rung = one.rung
        lines.append(f"- **{rung.number} {rung.name}**: {rung.why}")
        if rung.change:
            lines[-1] += " Change: " + _changes(rung.change) + "."
        if rung.riders:
            lines[-1] += " Riders: " + _changes(rung.riders) + "."
        if rung.sources:
            lines[-1] += " Source: " + "; ".join(rung.sources) + "."
    return [*lines, ""]


def _changes(changes: object) -> str:
    assert isinstance(changes, dict)
    return ", ".join(
        f"`{path}` {getattr(value, 'value', value)}" for path, value in changes.items()
    )
