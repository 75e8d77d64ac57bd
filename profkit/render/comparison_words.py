"""Comparison -> sentences, each with the word that it stands under."""

from collections.abc import Sequence

from ..diagnose.policy import BUSY_CORES_SHARE
from ..schema.comparison import (
    Change,
    Difference,
    Fact,
    PairFindings,
    PlaceChange,
    RunsComparison,
    TimeChange,
)
from ..schema.findings import EndingKind, RunFindings
from ..schema.run import COMPLETED
from ..schema.stage import Stage
from .units import (
    binary_size,
    milliseconds,
    one_line,
    percent,
    relative_change,
    signed_milliseconds,
    signed_percent,
    significant,
)
from .wording import ending_line, verdict_sentence

CAUTION = "caution"
LONGEST_NAME = 30
_LONGEST_VALUE = 80
_OPPOSING_PART = -0.1
"""Part of the step's change from which a stage is named that moves the other way."""
_PROBES = {
    "samples": "stack samples",
    "lines": "line_profiler",
    "stacks": "py-spy",
    "torch": "torch.profiler",
}

Line = tuple[str, str]
"""What a sentence is about, and the sentence."""


def comparison_lines(found: RunsComparison) -> tuple[Line, ...]:
    """What the runs show beside each other, and what limits that, the result first."""
    lines: list[Line] = []
    if found.pair is not None:
        base, new = found.runs
        lines.append(("result", _result(found.pair, base, new)))
        lines += [("result", text) for text in _rare_steps(found.pair)]
        if text := _explanation(found.pair, base, new):
            lines.append(("explained by", text))
        lines.append(("verdict", _verdicts(base, new)))
    else:
        lines.append(("result", _order(found)))
    if text := _busy_cores(found.runs):
        lines.append((CAUTION, text))
    names = [run.manifest.name for run in found.runs]
    for one in found.differences:
        about = "compared anyway" if one.is_decisive else "differs"
        lines.append((about, difference_sentence(one, names)))
    lines.append(("recorded", _when(found)))
    for run, drift in zip(found.runs, found.drifts, strict=True):
        name = _name(run)
        if drift is not None:
            word = "longer" if drift > 0 else "shorter"
            lines.append(
                (
                    f"note, {name}",
                    f"its steps grew {signed_percent(abs(drift))[1:]} {word} while it ran",
                )
            )
        if run.ending.kind is not EndingKind.RECORDED or run.manifest.ended != COMPLETED:
            lines.append((f"ended, {name}", ending_line(run.ending)))
    return tuple(lines)


def difference_sentence(difference: Difference, names: Sequence[str]) -> str:
    """What differs, and in which run it is what, e.g. `batch size 64 (base), 128 (new)`."""
    runs: dict[Fact, list[str]] = {}
    for value, name in zip(difference.values, names, strict=True):
        runs.setdefault(value, []).append(one_line(name, LONGEST_NAME))
    parts = (f"{_value(value, difference.unit)} ({', '.join(who)})" for value, who in runs.items())
    return f"{one_line(difference.what, _LONGEST_VALUE)} {', '.join(parts)}"


def _value(value: Fact, unit: str | None) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, str):
        return one_line(value, _LONGEST_VALUE)
    if unit == "bytes":
        return binary_size(value)
    number = str(value) if isinstance(value, int) else significant(value)
    return number if unit is None else f"{number} {unit}"


def _name(run: RunFindings) -> str:
    return one_line(run.manifest.name, LONGEST_NAME)


def _result(pair: PairFindings, base: RunFindings, new: RunFindings) -> str:
    leading = pair.leading
    if leading.change in (Change.FASTER, Change.SLOWER):
        per = "" if pair.per_sample is None else " per sample"
        text = f"{_name(new)} is {leading.change.value} than {_name(base)}{per}"
    elif leading.change is Change.NOT_SHOWN:
        text = f"no difference shown between {_name(base)} and {_name(new)}"
    else:
        text = f"too few blocks of steps to tell {_name(base)} and {_name(new)} apart"
    parts = [("mean step", pair.mean), ("typical step", pair.typical)]
    if pair.per_sample is not None:
        parts.insert(0, ("mean time of a sample", pair.per_sample))
    return f"{text}: " + "; ".join(f"{what} {_change(times)}" for what, times in parts)


def _change(times: TimeChange) -> str:
    amounts = f"{milliseconds(times.new_ns or 0)} ms instead of {milliseconds(times.base_ns or 0)}"
    return amounts if times.ratio is None else f"{relative_change(times.ratio)}, {amounts}"


def _rare_steps(pair: PairFindings) -> list[str]:
    """Where mean and typical step say different things, which is more than one being unsure."""
    mean, typical = pair.mean, pair.typical
    if mean.ratio is None or typical.ratio is None or typical.ratio.low is None:
        return []
    low, high = typical.ratio.low, typical.ratio.high or typical.ratio.low
    if mean.change is typical.change or low <= mean.ratio.value <= high:
        return []
    if {mean.change, typical.change} == {Change.FASTER, Change.SLOWER}:
        return ["a typical step shows the opposite: rare, slow steps outweigh it in the mean"]
    if mean.change in (Change.FASTER, Change.SLOWER):
        return ["a typical step does not show that change: it lies in rare, slow steps"]
    return ["rare, slow steps hide in the mean what a typical step shows"]


def _explanation(pair: PairFindings, base: RunFindings, new: RunFindings) -> str:
    if not pair.explained_by:
        return ""
    parts = [_stage_change(pair, stage, base, new) for stage in pair.explained_by]
    if pair.mean.change not in (Change.FASTER, Change.SLOWER):
        text = f"stages that changed although the step shows no change: {', '.join(parts)}"
    else:
        whole = signed_milliseconds(pair.mean.change_ns)
        text = f"{', '.join(parts)} of {whole} ms a step"
        against = [
            _stage_change(pair, stage, base, new)
            for stage, times in pair.stages.items()
            if times is not None and times.part is not None and times.part <= _OPPOSING_PART
        ]
        text += f"; against it {', '.join(against)}" if against else ""
    return text if pair.place is None else f"{text}; {_place(pair.place, base, new)}"


def _stage_change(pair: PairFindings, stage: Stage, base: RunFindings, new: RunFindings) -> str:
    times = pair.stages[stage]
    assert times is not None  # a stage that explains something was seen
    text = f"{stage.label} {signed_milliseconds(times.change_ns)} ms"
    if times.base_ns is None or times.new_ns is None:
        text += f" (not observed in {_name(base if times.base_ns is None else new)})"
    elif times.change is Change.NOT_SHOWN:
        text += " (by itself not shown to differ)"
    return text


def _place(place: PlaceChange, base: RunFindings, new: RunFindings) -> str:
    where = f"{one_line(place.source, _LONGEST_VALUE)} " if place.source else ""
    text = f"within {place.stage.label} most at {where}{one_line(place.name, 60)}: "
    if place.base_ns is None:
        text += f"about {milliseconds(place.new_ns or 0)} ms a step"
        missing = base
    else:
        after = (
            "" if place.new_ns is None else f"{milliseconds(place.new_ns)} ms a step instead of "
        )
        text += f"about {after}{milliseconds(place.base_ns)}"
        text += " ms a step" if place.new_ns is None else ""
        missing = new
    if place.base_ns is None or place.new_ns is None:
        text += f", not among the costliest seen in {_name(missing)}"
    return f"{text} ({_PROBES.get(place.probe, one_line(place.probe))})"


def _verdicts(base: RunFindings, new: RunFindings) -> str:
    before, after = base.verdicts[0], new.verdicts[0]
    is_same = (before.kind, before.severity) == (after.kind, after.severity)
    return (
        f"{'unchanged' if is_same else 'changed'}; before, {verdict_sentence(before, base)}; "
        f"now, {verdict_sentence(after, new)}"
    )


def _order(found: RunsComparison) -> str:
    first, *others = found.ranking
    name = _name(found.runs[first.run])
    what = "time of a sample" if found.by_sample else "step"
    text = f"{name} is the fastest: mean {what} {milliseconds(first.time_ns)} ms"
    if first.letters is None:
        return f"{text}, from too few blocks to tell it from the others"
    alike = [
        _name(found.runs[one.run])
        for one in others
        if one.letters is not None and set(first.letters) & set(one.letters)
    ]
    if alike:
        return f"{text}; not shown to differ from it: {', '.join(alike)}"
    return f"{text}, shown to differ from all others that can be told"


def _busy_cores(runs: Sequence[RunFindings]) -> str:
    """That others had the cores of a run, which no interval of its blocks can tell."""
    waits = [
        f"{_name(run)} waited for a core {percent(run.core_wait.value)} of the time"
        for run in runs
        if run.core_wait is not None and run.core_wait.value >= BUSY_CORES_SHARE
    ]
    if not waits:
        return ""
    return (
        f"{', '.join(waits)}: what had it, other programs or its own workers and threads, may be "
        "the whole difference"
    )


def _when(found: RunsComparison) -> str:
    if found.in_turns:
        return "in turns, block by block, in one process: what else went on met all of them alike"
    starts = ", ".join(
        f"{_name(run)} {one_line(run.manifest.started_at, LONGEST_NAME)}" for run in found.runs
    )
    return (
        f"apart ({starts}): what else went on on the machine may be part of any difference; "
        "profkit check measures two versions in turns"
    )
