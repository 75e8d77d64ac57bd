"""The outcomes of all settings as Markdown."""

from collections.abc import Callable, Sequence

import numpy as np

from .agreement import LOGGER, STAGES, Outcome

TARGET_MEDIAN, TARGET_WORST = 0.02, 0.05
LABELS = {stage: stage for stage in STAGES} | {"dataloader": "data wait"}
_LARGEST = 8


def write_page(outcomes: Sequence[Outcome], rule: str) -> list[str]:
    """All sections below the head."""
    return [
        *_errors(outcomes),
        *_largest(outcomes),
        *_verdicts(outcomes),
        *_places(outcomes),
        *_contended(outcomes),
        *_settings(outcomes),
        *_method(outcomes, rule),
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.3g}"


def _met(is_met: bool) -> str:
    return "**met**" if is_met else "**missed**"


def _errors(outcomes: Sequence[Outcome]) -> list[str]:
    rows = []
    every: list[tuple[float, Outcome]] = []
    for stage in STAGES:
        seen = [(one.errors[stage], one) for one in outcomes if stage in one.errors]
        every += seen
        rows.append(_error_row(LABELS[stage], seen, stage))
    rows.append(_error_row("all", every, None))
    values = [error for error, _ in every]
    absent = [one.setting.name for one in outcomes if not one.is_absence_right]
    return [
        "## Error of each stage",
        "",
        f"{len(outcomes)} loops; |mean by profkit - mean by the loop's own clock| over the mean "
        "step, in %. Both means are over the same steps, those that profkit timed.",
        "",
        "| stage | loops | median, % | 90th percentile, % | worst, % | median, µs | worst in |",
        "|---|---:|---:|---:|---:|---:|---|",
        *rows,
        "",
        f"Target: at most {100 * TARGET_MEDIAN:g} % in the median: "
        f"{_met(float(np.median(values)) <= TARGET_MEDIAN)}; at most {100 * TARGET_WORST:g} % in "
        f"the worst case: {_met(max(values) <= TARGET_WORST)}.",
        "",
        "A stage is absent exactly where the loop has none"
        + (f", but for: {', '.join(absent)}." if absent else ", in every loop."),
        "",
    ]


def _error_row(label: str, seen: list[tuple[float, Outcome]], stage: str | None) -> str:
    if not seen:
        return f"| {label} | 0 | – | – | – | – | – |"
    values = [error for error, _ in seen]
    worst = max(seen, key=lambda one: one[0])[1]
    signed = [one.signed[stage] / 1e3 for _, one in seen] if stage else []
    micro = f"{np.median(signed):+.1f}" if signed else ""
    return (
        f"| {label} | {len(seen)} | {_percent(float(np.median(values)))} | "
        f"{_percent(float(np.quantile(values, 0.9)))} | {_percent(max(values))} | {micro} | "
        f"{worst.setting.name} |"
    )


def _largest(outcomes: Sequence[Outcome]) -> list[str]:
    found = [
        (one.errors[stage], stage, one)
        for one in outcomes
        for stage in STAGES
        if stage in one.errors
    ]
    found.sort(key=lambda one: -one[0])
    return [
        "The largest ones:",
        "",
        "| loop | stage | error, % | by the loop, ms | by profkit, ms | step, ms | steps |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(
            f"| {one.setting.name} | {LABELS[stage]} | {_percent(error)} | "
            f"{_ms(one.true_ns[stage])} | {_ms(one.said_ns[stage] or 0.0)} | {_ms(one.step_ns)} | "
            f"{one.steps} |"
            for error, stage, one in found[:_LARGEST]
        ),
        "",
    ]


def _verdicts(outcomes: Sequence[Outcome]) -> list[str]:
    right = [one for one in outcomes if one.agrees]
    near = [one for one in outcomes if one.expected.is_near_limit]
    built = [one for one in outcomes if one.setting.is_balanced]
    balanced = [one for one in built if not one.expected.surely - {"compute-bound"}]
    claimed = [one for one in balanced if one.severity != "none"]
    lines = [
        "## Verdicts",
        "",
        "Beside the verdict that the loop's own times give by the table in the README, worked out "
        "by code of this experiment. Where a share lies within two points of a limit, or two "
        f"within two points of each other, either answer counts: so in {len(near)} loops.",
        "",
        f"- as the truth has it: {len(right)} of {len(outcomes)}",
        f"- a bottleneck claimed on a loop that has none: {len(claimed)} of {len(balanced)} "
        f"({len(built)} were built so, the loop's own times decide)",
        "",
    ]
    wrong = [one for one in outcomes if not one.agrees]
    if wrong:
        lines += ["| not as the truth has it | by the loop | by profkit |", "|---|---|---|"]
        lines += [
            f"| {one.setting.name} | {_kinds(sorted(one.expected.first))}"
            f"; surely {_kinds(sorted(one.expected.surely))} | {_said(one)} |"
            for one in wrong
        ]
        lines.append("")
    return lines


def _kinds(kinds: Sequence[str]) -> str:
    return " or ".join(kinds) if kinds else "none"


def _said(one: Outcome) -> str:
    moderate = one.kinds[0] == "input-bound" and one.severity == "moderate"
    first = f"{'moderately ' if moderate else ''}{one.kinds[0]}"
    return "; also ".join([first, *one.kinds[1:]])


def _places(outcomes: Sequence[Outcome]) -> list[str]:
    seen = [(one, one.place) for one in outcomes if one.place is not None]
    if not seen:
        return []
    named = [(one, place) for one, place in seen if LOGGER in place.name]
    lines = [
        "## The place that logs",
        "",
        f"The first place that profkit names in `other` is `{LOGGER}` in {len(named)} of "
        f"{len(seen)} loops that log.",
    ]
    if named:
        errors = [100 * place.error for _, place in named]
        lines[-1] += (
            f" Its share of the step is off by {np.median(errors):.2f} points in the "
            f"median and {max(errors):.2f} in the worst case."
        )
    return [
        *lines,
        "",
        "| loop | named | share by profkit, % | by the loop, % |",
        "|---|---|---:|---:|",
        *(
            f"| {one.setting.name} | {place.name or '–'} | {100 * place.said_share:.1f} | "
            f"{100 * place.true_share:.1f} |"
            for one, place in seen
        ),
        "",
    ]


def _contended(outcomes: Sequence[Outcome]) -> list[str]:
    seen = [one for one in outcomes if one.shrink is not None]
    if not seen:
        return []
    return [
        "## Workers and the model in each other's way",
        "",
        "How much of forward to optimizer vanishes in the same loop without workers, the loader "
        "sleeping as long as the loop waited: from 20 % it is contended. Measured where the "
        "workers spin or read, and they and the threads are more than the cores; not for the "
        "programs. `profkit run` makes no such reference. It goes by what the loop's thread waits "
        "for a core between the batch and the end of the step. That leaves out what the workers "
        "do to its caches, and the waits of the other intra-op threads; what other programs do "
        "to it counts in.",
        "",
        "| loop | vanishes, % | waits for a core, % | by profkit |",
        "|---|---:|---:|---|",
        *(
            f"| {one.setting.name} | {100 * (one.shrink or 0.0):.0f} | "
            f"{_core_wait(one)} | {_said(one)} |"
            for one in seen
        ),
        "",
    ]


def _core_wait(one: Outcome) -> str:
    return "–" if one.core_wait is None else f"{100 * one.core_wait:.1f}"


def _settings(outcomes: Sequence[Outcome]) -> list[str]:
    head = " | ".join(LABELS[stage] for stage in STAGES)
    return [
        "## All loops",
        "",
        "Mean ms a step by the loop's own clock; in brackets what profkit says more or less, "
        "in % of the step. Hidden: what the workers paid beyond the loop's wait, ms. No core: what "
        "the loop waited for one by profkit, % of the time from batch to end of step.",
        "",
        f"| loop | steps | step | {head} | hidden | no core | by profkit | |",
        "|---|---:|" + "---:|" * (len(STAGES) + 3) + "---|---|",
        *(
            f"| {one.setting.name} | {one.steps} | {_ms(one.step_ns)} | "
            + " | ".join(_cell(one, stage) for stage in STAGES)
            + f" | {_hidden(one)} | {_core_wait(one)} | {_said(one)} | "
            + f"{'' if one.agrees else 'not the truth'} |"
            for one in outcomes
        ),
        "",
    ]


def _cell(one: Outcome, stage: str) -> str:
    if stage not in one.signed:
        return "–"
    return f"{_ms(one.true_ns[stage])} ({100 * one.signed[stage] / one.step_ns:+.1f})"


def _hidden(one: Outcome) -> str:
    if not one.setting.workers or "data" not in one.paid_ns:
        return "–"
    return _ms(max(0.0, one.paid_ns["data"] - one.true_ns["dataloader"]))


def _quantiles(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> str:
    values = [value(one) for one in outcomes]
    return (
        f"{_percent(float(np.median(values)))} % in the median, {_percent(max(values))} % at most"
    )


def _method(outcomes: Sequence[Outcome], rule: str) -> list[str]:
    of_all = [error for one in outcomes for error in one.errors_of_all.values()]
    return [
        "## How",
        "",
        "Each loop runs for some seconds in a process of its own under `profkit run`, and takes "
        "eight moments a step with the same clock around the calls that a user writes. It does not "
        "know profkit. Costs are noted where they are paid, in workers too. The loops:",
        "",
        *(line for line in rule.strip().splitlines() if line),
        "",
        "What could bias the comparison:",
        "",
        "- Only the steps that profkit timed are compared, found by their start in its Arrow "
        "stream: it leaves out its warm-up, and the steps that its stack samples disturb. With "
        "all steps after the warm-up as the truth instead, the errors would be "
        f"{_percent(float(np.median(of_all)))} % in the median and {_percent(max(of_all))} % at "
        "most.",
        "- What profkit does between two steps (it writes them, it starts a sampler) happens "
        "while the loop asks for a batch, and is no part of its steps. The loop takes a moment "
        "when torch's loader begins to fetch, and counts what lies before it apart: "
        f"{_quantiles(outcomes, lambda one: one.between_share)} of the steps' time.",
        "- The hooks' own time lies within the loop's moments, outside of profkit's marks: profkit "
        "calls it `other`, the loop the stage. It is part of the errors above.",
        "- The loop frees its batch and its graph at the end of the step, in `other`: left to the "
        "next step, that would happen within the loop's moments around the wait and the forward, "
        "but after the calls that profkit marks.",
        "- A moment of the loop's costs about 0.1 µs, and lies in the stage after it.",
        "",
    ]
