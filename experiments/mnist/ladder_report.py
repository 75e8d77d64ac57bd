"""Findings of a ladder -> Markdown."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..measured import mean_interval, spread
from .checks import CLAIMS, table
from .dominance import Dominance
from .figures import LABELS
from .findings import RungFindings, epoch_s_of, seconds_of, times_faster
from .forecast import Forecast
from .ladder import Ladder
from .rates import Peak, rate_of

CHANCE = 0.2
"""An accuracy below this has learned nothing: guessing gives a tenth."""
APART = 0.15
"""A recorded epoch that takes so much more or less than the median one is said."""
NOISY = 0.1
"""A distance of the quartiles beyond this part of the median is said."""


def mean_and_deviation(accuracies: Sequence[float]) -> str:
    """In percent, such as `99.07 (0.05)`."""
    mean = f"{100 * np.mean(accuracies):.2f}"
    if len(accuracies) == 1:
        return mean
    return f"{mean} ({100 * np.std(accuracies, ddof=1):.2f})"


def gain_interval(before: Sequence[float], after: Sequence[float]) -> str:
    """Mean difference in percentage points and its 95 % interval by Student's t, paired by seed.

    Args:
        before, after: accuracies, 0 to 1, from the first seed on; what the longer one has more is
            left out.
    """
    pairs = list(zip(before, after, strict=False))
    gains = [100 * (two - one) for one, two in pairs]
    mean, low, high = mean_interval(gains)
    return f"{mean:+.2f}" if math.isnan(low) else f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def times_with_interval(times: tuple[float, float, float]) -> str:
    """Of `times_faster`, such as `1.62 (1.5 to 1.7)`."""
    mean, low, high = times
    return f"{mean:.2f}" if math.isnan(low) else f"{mean:.2f} ({low:.2f} to {high:.2f})"


def render(found: Sequence[RungFindings], ladder: Ladder, peak: Peak) -> list[str]:
    """The report's tables, without its head and its figures.

    Args:
        found: some rungs of a ladder, in order.
        ladder: which.
        peak: of the machine.
    """
    return [
        *_times(found, ladder.aim),
        *table(CLAIMS[ladder.name], found),
        *_steps(found),
        *_costs(found),
        *_rates(found, peak),
        *_forecasts(found),
        *_isolated(found),
        *_declarations(found),
        *_untried(ladder),
    ]


def render_dominance(found: Mapping[str, Dominance], fast: str, measured: float) -> list[str]:
    """What it takes for data loading to hold half of the step, as Markdown; nothing of nothing.

    Args:
        found: by rung's name, of those that a DataLoader feeds.
        fast: name of the rung with the fast network.
        measured: data wait there, as a part of the step.
    """
    if not found:
        return []
    lines = [
        "## What it takes for data loading to hold half of the step",
        "",
        "The same loading before a network that computes faster: predicted by what-if from one "
        "recorded epoch of each rung, with forward, backward and optimizer as fast for each image "
        f"as those of {fast}; and proven by that rung, whose own step is measured.",
        "",
        "| rung | data wait, % of the step | half of it where forward and backward are faster by "
        f"| predicted with the speed of {fast}, % | measured there, % |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, one in found.items():
        times = "no speed does" if one.times is None else f"{one.times:.3g}×"
        if one.times == 1:
            times = "it is"
        then = "unknown" if one.fast_share is None else f"{100 * one.fast_share:.0f}"
        lines.append(
            f"| {name} | {100 * one.wait_share:.1f} | {times} | {then} | {100 * measured:.0f} |"
        )
    return [*lines, ""]


def _times(found: Sequence[RungFindings], aim: float) -> list[str]:
    first = float(np.median(found[0].seconds))
    lines = [
        "## Time to the end of each training",
        "",
        "Seconds on the rung's own clock, to the accuracy of the last test: median (quartiles). "
        "Each training is a process of its own, and the seeds take turns over the rungs. Loading, "
        "from the files to what feeds the training, is part of that where a rung's clock says so, "
        f"else beside it; so is a warm-up where one is named. To {100 * aim:g} %: until the first "
        "test that showed it. Times faster: geometric mean of the seeds' ratios (95 %); of one "
        "seed, whose ratio holds all of the machine's noise, no interval.",
        "",
        "| rung | changes | s | seeds | times faster than that | than the first | epochs "
        "| test accuracy, % (sd) "
        f"| s to {100 * aim:g} % | loading, s | published, s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    unshown = []
    for one in found:
        median = float(np.median(one.seconds))
        epochs = sorted(set(one.epochs))
        counted = str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
        published = one.rung.published_s
        faster = "–"
        if one.before is not None:
            times = times_faster(one.before.results, one.results, seconds_of)
            faster = times_with_interval(times)
            if times[1] <= 1 <= times[2]:
                unshown.append(one.rung.name)
        loading = np.median([result.training.loading_s for result in one.results])
        counts = "in it" if one.rung.recipe.clock.includes_loading else "beside it"
        if one.rung.recipe.clock.is_warm:
            warming = np.median([result.training.warming_s for result in one.results])
            counts += f"; {warming:.2g} warm-up beside it"
        lines.append(
            f"| {one.rung.number} {one.rung.name} | {one.rung.on or '–'} "
            f"| {spread(one.seconds)} | {len(one.results)} | {faster} "
            f"| {first / median:.3g} | {counted} | {_accuracy(one)} | {_reached(one, aim)} "
            f"| {loading:.2g}, {counts} | {'–' if published is None else f'{published:g}'} |"
        )
    if unshown:
        lines += [
            "",
            "No faster and no slower than what it changes, as far as these seeds can tell (the "
            f"interval holds 1): {', '.join(unshown)}.",
        ]
    noisy = [one.rung.name for one in found if _is_noisy(one.seconds)]
    if noisy:
        lines += [
            "",
            f"Quartiles more than {100 * NOISY:.0f} % of the median apart, by the seed's epochs or "
            f"by the machine: {', '.join(noisy)}.",
        ]
    return [*lines, ""]


def _is_noisy(values: Sequence[float]) -> bool:
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return bool(high - low > NOISY * median)


def _accuracy(one: RungFindings) -> str:
    diverged = sum(
        result.training.epochs[-1].loss is None or result.training.accuracy < CHANCE
        for result in one.results
    )
    text = mean_and_deviation(one.accuracies)
    return f"{text}; {diverged} of {len(one.results)} diverged" if diverged else text


def _reached(one: RungFindings, aim: float) -> str:
    times = one.until(aim)
    if not times:
        return "not reached"
    text = spread(times)
    count = len(one.results)
    return text if len(times) == count else f"{text}; {len(times)} of {count}"


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


def _costs(found: Sequence[RungFindings]) -> list[str]:
    changed = [one for one in found if one.before is not None]
    if not changed:
        return []
    stages = list(found[0].step.stage_shares)
    lines = [
        "## What each change costs or saves of an epoch, by stage, and what it gains",
        "",
        "Seconds of training on one epoch, more (+) or fewer (-) than the rung that is changed: "
        "each stage in the one epoch that was recorded, and the whole without profkit, as median "
        "of the first epochs of all seeds. Accuracy in percentage points, at the end and after "
        "the first epoch: mean (95 %) over seeds.",
        "",
        "| rung | changes | "
        + " | ".join(LABELS.get(stage, stage) for stage in stages)
        + " | whole epoch | accuracy | after the first epoch |",
        "|---|---|" + "---:|" * (len(stages) + 3),
    ]
    for one in changed:
        before = one.before
        assert before is not None  # chosen by that
        old, new = before.stages_s, one.stages_s
        firsts = [
            [result.training.epochs[0].accuracy for result in each.results]
            for each in (before, one)
        ]
        cells = [_difference(old[stage], new[stage]) for stage in stages]
        cells += [
            _difference(before.epoch_s, one.epoch_s),
            gain_interval(before.accuracies, one.accuracies),
            gain_interval(*firsts),
        ]
        lines.append(f"| {one.rung.number} {one.rung.name} | {one.rung.on} | {' | '.join(cells)} |")
    return [*lines, *_apart(found), ""]


def _apart(found: Sequence[RungFindings]) -> list[str]:
    """Rungs whose recorded epoch was not as long as the others: an empty line and one, or none."""
    parts = {one.rung.name: one.recorded_epoch_s / one.epoch_s - 1 for one in found}
    words = [f"{name} {100 * part:+.0f} %" for name, part in parts.items() if abs(part) > APART]
    if not words:
        return []
    return [
        "",
        f"Recorded epochs that took over {100 * APART:.0f} % more or less than the median without "
        "profkit, by the machine's hour or by being recorded, so that the differences of their "
        f"stages hold that as well: {', '.join(words)}.",
    ]


def _difference(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{after - before:+.2f}"


def _rates(found: Sequence[RungFindings], peak: Peak) -> list[str]:
    measured = ", ".join(f"{one / 1e9:.0f} GFLOP/s {name}" for name, one in peak.rates.items())
    over = "what forward and backward took of the recorded epoch"
    if peak.device == "cuda":
        over = "a whole epoch, and in fp32 convolutions use TF32 as torch has it, the peak does not"
    lines = [
        "## Operations, and the rate at which they are done",
        "",
        "Floating-point operations of convolutions and matrix products for one image, two for each "
        f"multiply-add (torch.utils.flop_counter), over {over}. This machine's peak, "
        f"by a product of two matrices of {peak.side} by {peak.side} after these were recorded, "
        f"median of {peak.count}: {measured}.",
        "",
        "| rung | forward, Mflop | backward, Mflop | achieved, GFLOP/s | % of the peak |",
        "|---|---:|---:|---:|---:|",
    ]
    for one in found:
        rate = rate_of(one, peak.device)
        name = one.rung.recipe.compute.precision.name.lower()
        whole = peak.rates.get(name)
        achieved = "–" if rate.achieved is None else f"{rate.achieved / 1e9:.1f}"
        share = (
            "–"
            if rate.achieved is None or whole is None
            else f"{100 * rate.achieved / whole:.1f} of {name}"
        )
        lines.append(
            f"| {one.rung.number} {one.rung.name} | {rate.work.forward / 1e6:.2f} "
            f"| {rate.work.backward / 1e6:.2f} | {achieved} | {share} |"
        )
    return [*lines, ""]


def _forecasts(found: Sequence[RungFindings]) -> list[str]:
    lines = [
        "## Predicted before, and measured after",
        "",
        "How many times faster training one epoch becomes: what `profkit what-if` says from the "
        "recorded epoch of the rung that is changed, and what was measured: the first epochs of "
        "both, seed by seed, geometric mean of the ratios (95 %). Measured without riders where "
        "that was done.",
        "",
        "| change | predicted (95 %) | measured | seeds | epoch before, s | after, s | measured "
        "| asked |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for after in found:
        before, said = after.before, after.forecast
        if before is None or said is None:
            continue
        measured = times_faster(before.results, after.alone, epoch_s_of)
        pairs = min(len(before.results), len(after.alone))
        lines.append(
            f"| {after.rung.name} | {_predicted(said)} | {times_with_interval(measured)} "
            f"| {pairs} | {before.epoch_s:.3g} | {after.alone_epoch_s:.3g} | {_how(before, after)} "
            f"| {said.basis} |"
        )
    return [*lines, ""]


def _predicted(said: Forecast) -> str:
    if said.speedup is None:
        return "unknown" if said.bound is None else f"unknown, at most {said.bound:.2f}"
    if said.low is None or said.high is None or said.low == said.high:
        return f"{said.speedup:.2f}"
    return f"{said.speedup:.2f} ({said.low:.2f} to {said.high:.2f})"


def _how(before: RungFindings, after: RungFindings) -> str:
    how = "with riders" if after.rung.riders and not after.isolated else "the change alone"
    if before.rung.recipe.clock.is_warm != after.rung.recipe.clock.is_warm and not after.isolated:
        how += "; one of them warm"
    return how


def _isolated(found: Sequence[RungFindings]) -> list[str]:
    pairs = [(one.before, one) for one in found if one.isolated and one.before is not None]
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
            f"| {after.rung.number} {after.rung.name} | {spread(before.seconds)} "
            f"| {spread(alone)} | {spread(after.seconds)} "
            f"| {before.epoch_s:.3g} | {after.alone_epoch_s:.3g} "
            f"| {after.epoch_s:.3g} "
            f"| {mean_and_deviation(reached)} |"
        )
    return [*lines, ""]


def _declarations(found: Sequence[RungFindings]) -> list[str]:
    lines = ["## What each rung changes", ""]
    for one in found:
        rung = one.rung
        lines.append(f"- **{rung.number} {rung.name}**: {rung.why}")
        if rung.change:
            lines[-1] += f" Change on {rung.on}: " + _changes(rung.change) + "."
        if rung.riders:
            lines[-1] += " Riders: " + _changes(rung.riders) + "."
        if rung.sources:
            lines[-1] += " Source: " + "; ".join(rung.sources) + "."
    return [*lines, ""]


def _untried(ladder: Ladder) -> list[str]:
    if not ladder.untried:
        return []
    lines = ["## What was not tried, or not kept", ""]
    return [*lines, *(f"- {words}" for words in ladder.untried), ""]


def _changes(changes: object) -> str:
    assert isinstance(changes, dict)
    return ", ".join(
        f"`{path}` {getattr(value, 'value', value)}" for path, value in changes.items()
    )
