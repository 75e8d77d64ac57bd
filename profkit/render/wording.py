"""Sentences: verdicts, hardware and data in words."""

from ..diagnose.verdict import SPEEDUP_MEASURED
from ..schema.drilldown import Cost
from ..schema.findings import (
    Comparison,
    EndingKind,
    Estimate,
    RunEnding,
    RunFindings,
    Summary,
    Verdict,
)
from ..schema.run import Environment, LoaderFacts, ProbeFacts
from ..schema.stage import Stage
from .units import (
    binary_size,
    duration,
    milliseconds,
    one_line,
    percent,
    plural,
    significant,
    times,
)

_PLACES_SHOWN = 3
_LEAST_SAMPLES = 2
"""A place that was seen once may as well have been seen by accident."""
_LEAST_SHARE = 0.0005
"""Of the step: below, a share rounds to nothing."""


def verdict_title(verdict: Verdict) -> str:
    """The kind, and how much of it."""
    kind = verdict.kind
    return f"moderately {kind}" if verdict.severity == "moderate" else kind


def verdict_sentence(
    verdict: Verdict, run: RunFindings, comparison: Comparison | None = None
) -> str:
    """The verdict in one sentence with its evidence.

    Args:
        verdict: one of the run's.
        run: the run that it is about.
        comparison: in which this run is the base, where there is one.
    """
    reason = _REASONS.get(verdict.kind, _stage_reason)(verdict, run)
    if comparison is not None and _is_measured(verdict):
        reason += "; " + comparison_sentence(comparison)
    return f"{verdict_title(verdict)}: {reason}"


def comparison_sentence(comparison: Comparison) -> str:
    """What the other run's step takes instead of the base's."""
    return (
        f"in {one_line(comparison.other)} the step takes "
        f"{milliseconds(comparison.other_step_ns)} ms instead of "
        f"{milliseconds(comparison.base_step_ns)}: {times(comparison.speedup)}"
    )


def _is_measured(verdict: Verdict) -> bool:
    return any(one.name == SPEEDUP_MEASURED for one in verdict.evidence)


def _stage_reason(verdict: Verdict, run: RunFindings) -> str:
    stage = verdict.stage
    assert stage is not None  # every kind without a stage has its own wording below
    text = f"{percent(verdict.at_stake_share)} of the step is {stage.label}"
    if stage is not Stage.OTHER:
        return text
    if places := _other_places(run):
        return f"{text}: {places[0]}"
    traced = (found for found in run.drilldown if found.stage is stage and found.costs)
    place = next((found.costs[0] for found in traced), None)
    if place is not None and place.source is not None:
        text += f", most at {one_line(place.source, 80)} ({one_line(place.name, 60)})"
    return text


def other_line(run: RunFindings) -> str | None:
    """What `other` holds, by place, each with its part of the step; None where it is not known."""
    finding, places = run.breakdown.stages[Stage.OTHER], _other_places(run)
    if finding is None or not places:
        return None
    label = f"{Stage.OTHER.label} {percent(finding.share.value)}"
    return f"{label}: {', '.join(places[:_PLACES_SHOWN])}"


def _other_places(run: RunFindings) -> list[str]:
    """The places of `other` that samplers saw, costliest first, each with its part of the step."""
    held = run.breakdown.share(Stage.OTHER)
    for probe in ("samples", "stacks"):  # what was seen in the light pass comes first
        for found in run.drilldown:
            if found.probe == probe and found.stage is Stage.OTHER and found.costs:
                return [
                    f"{_place(cost)} about {percent(cost.share * held)}"
                    for cost in found.costs
                    if cost.count >= _LEAST_SAMPLES and cost.share * held >= _LEAST_SHARE
                ]
    return []


def _place(cost: Cost) -> str:
    source = one_line(cost.source, 80) + " " if cost.source else ""
    return source + one_line(cost.name, 60)


def _input_reason(verdict: Verdict, run: RunFindings) -> str:
    text = f"{percent(verdict.at_stake_share)} of the step is data wait"
    without = {one.name: one.value for one in verdict.evidence}.get("speedup_without_wait")
    # It takes the other stages as given: beside a measured speedup, or where workers slow the
    # model down, it would contradict what is known better.
    known_better = _is_measured(verdict) or any(one.kind == "contended" for one in run.verdicts)
    if without is None or known_better:
        return text
    return f"{text} (without it alone {significant(without)}× faster)"


def _contention_reason(verdict: Verdict, run: RunFindings) -> str:
    seen = run.contention
    assert seen is not None  # the rule fires on nothing else
    crowd = (
        f"{plural(seen.workers, 'loader worker')} and {plural(seen.threads, 'intra-op thread')} "
        f"want more than the {plural(seen.cores, 'core')} there are"
    )
    if seen.model_ns is not None and seen.model_alone_ns is not None:
        grown = [(one.stage.label, one.with_ns, one.alone_ns) for one in seen.stages] or [
            ("forward to optimizer", seen.model_ns, seen.model_alone_ns)
        ]
        (name, taken, alone), *others = grown
        words = f"{name} takes {milliseconds(taken)} ms, without workers {milliseconds(alone)}"
        for name, taken, alone in others:
            words += f"; {name} {milliseconds(taken)}, without {milliseconds(alone)}"
        if seen.core_wait is not None:
            words += f"; the loop waits for a core {percent(seen.core_wait.value)} of the time"
        return f"{crowd}: {words}{_workers_wait(verdict)}"
    assert seen.core_wait is not None  # one of the two tells
    return (
        f"{crowd}: from the batch to the end of the step the loop waits for a core "
        f"{percent(seen.core_wait.value)} of the time, which they have, or other programs"
        f"{_workers_wait(verdict)}"
    )


def _workers_wait(verdict: Verdict) -> str:
    waits = {one.name: one.value for one in verdict.evidence}.get("worker_core_wait")
    return "" if waits is None else f"; a worker waits for a core {percent(waits)} of its time"


def busy_line(core_wait: Estimate) -> str:
    """That others had the cores, though nobody can be blamed."""
    return (
        "from the batch to the end of the step the loop waited for a core "
        f"{percent(core_wait.value)} of the time: loader workers, threads of its own or other "
        "programs had it, or there is a limit on its CPU time"
    )


def _compute_reason(verdict: Verdict, run: RunFindings) -> str:
    held = f"forward and backward hold {percent(verdict.at_stake_share)} of the step"
    wait = run.breakdown.stages[Stage.DATALOADER]
    return held if wait is None else f"{held}, data wait {percent(wait.share.value)}"


def _balanced_reason(verdict: Verdict, run: RunFindings) -> str:
    largest = verdict.evidence[0]
    return (
        f"no stage bounds the step; the largest is {Stage(largest.name).label} with "
        f"{percent(largest.value)}"
    )


def _insufficient_reason(verdict: Verdict, run: RunFindings) -> str:
    seen = verdict.evidence[0]
    if seen.name == "steps":
        return f"{plural(int(seen.value), 'step')} to judge by, {seen.limit:.0f} are needed"
    name = seen.name.removeprefix("relative_interval_of_").replace("_", " ")
    return f"the 95 % interval of {name} is {percent(seen.value)} of its value wide"


def _rank_reason(verdict: Verdict, run: RunFindings) -> str:
    return f"{percent(verdict.at_stake_share)} of the step waits for other ranks"


_REASONS = {
    "rank-bound": _rank_reason,
    "input-bound": _input_reason,
    "contended": _contention_reason,
    "compute-bound": _compute_reason,
    "balanced": _balanced_reason,
    "insufficient data": _insufficient_reason,
}


def hardware_line(environment: Environment, device: str | None) -> str:
    """The machine in one line."""
    hardware = environment.hardware
    parts = [one_line(hardware.processor)]
    if hardware.frequency_mhz:
        parts.append(f"{significant(hardware.frequency_mhz / 1000)} GHz")
    cores = [plural(hardware.logical_cores, "logical core")]
    if hardware.physical_cores is not None:
        cores.insert(0, f"{hardware.physical_cores} physical")
    if hardware.usable_cores != hardware.logical_cores:
        cores.append(f"{hardware.usable_cores} usable")
    parts.append(", ".join(cores))
    if environment.intra_op_threads is not None:
        parts.append(f"{plural(environment.intra_op_threads, 'intra-op thread')} in use")
    if hardware.memory_bytes is not None:
        parts.append(f"{binary_size(hardware.memory_bytes)} memory")
    parts.append("GPU " + ", ".join(map(one_line, hardware.gpus)) if hardware.gpus else "no GPU")
    if device is not None:
        parts.append(f"run on {one_line(device)}")
    return "; ".join(parts)


def versions_line(environment: Environment) -> str:
    """The versions that a time depends on."""
    found = ", ".join(f"{name} {version}" for name, version in environment.versions.items())
    commit = f", commit {environment.commit}" if environment.commit else ""
    return one_line(f"{found}{commit}", 400)


def data_line(run: RunFindings) -> str:
    """What the run was fed."""
    data, loader = run.manifest.data, run.manifest.loader
    if data is None:
        return "not stated" if loader is None else loader_words(loader)
    text = f"{data.name} ({data.origin}): {data.train_samples} training images"
    if loader is not None and loader.batch_size is not None:
        text += f", batch {loader.batch_size}"
    return one_line(text)


def loader_words(loader: LoaderFacts) -> str:
    """How batches are made, e.g. `DataLoader, batch 64, 2 workers`."""
    parts = [loader.source]
    if loader.batch_size is not None:
        parts.append(f"batch {loader.batch_size}")
    if loader.num_workers is not None:
        parts.append(plural(loader.num_workers, "worker"))
    return one_line(", ".join(parts))


_LOST = {
    EndingKind.KILLED: "killed: no end was recorded and its process is gone (SIGKILL, out of "
    "memory, a crash, or nothing could be written any more)",
    EndingKind.RUNNING: "still runs: these are its steps so far",
    EndingKind.UNKNOWN: "no end was recorded: it was killed, or still runs where it was started",
}


def ending_line(ending: RunEnding) -> str:
    """How a run ended, in a sentence; for one that said nothing also what is left of it."""
    if ending.kind is EndingKind.RECORDED:
        return one_line(ending.words or "")
    how = _LOST[ending.kind] if ending.words is None else one_line(ending.words)
    if ending.last_step_ns is None:
        return f"{how}; no step was recorded"
    last = duration(ending.last_step_ns)
    return f"{how}; its last recorded step ended {last} after the first began"


def probe_cost(run: RunFindings) -> tuple[tuple[str, str], ...]:
    """Name and cost of each probe, in words."""
    light = run.breakdown.steps
    rows = []
    for probe in run.manifest.probes:
        if probe.gap is not None:
            continue
        text = plural(probe.steps, "step")
        if probe.name == "clock":
            rows.append((one_line(probe.name, 30), f"{text}, {_clock_cost(probe, light)}"))
            continue
        if probe.name == "samples":
            open_for = "" if probe.wall_ns is None else f", windows of {duration(probe.wall_ns)}"
            rows.append((one_line(probe.name, 30), f"{text} left out of the times{open_for}"))
            continue
        if probe.wall_ns is not None:
            text += f", a pass of its own: {duration(probe.wall_ns)}"
        if probe.step_ns is not None and light is not None:
            text += f", its steps {significant(probe.step_ns / light.median)}× as long"
        rows.append((one_line(probe.name, 30), text))
    return tuple(rows)


def _clock_cost(probe: ProbeFacts, light: Summary | None) -> str:
    parts = []
    if probe.step_ns is not None:
        share = "" if light is None else f" ({percent(probe.step_ns / light.median)} of it)"
        parts.append(f"marks {duration(probe.step_ns)} in each{share}")
    if probe.wall_ns is not None:
        parts.append(f"writing {duration(probe.wall_ns)} in all, between steps")
    return ", ".join(parts)


def step_estimate(estimate: Estimate) -> str:
    """Mean step time with its interval, in ms."""
    text = f"{milliseconds(estimate.value)} ms"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({milliseconds(estimate.low)} to {milliseconds(estimate.high)})"
