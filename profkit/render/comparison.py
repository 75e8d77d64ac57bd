"""Comparison -> terminal, Markdown, JSON."""

import io
from dataclasses import asdict
from typing import Any

import msgspec
from rich.console import Console

from ..schema.comparison import (
    COMPARISON_SCHEMA,
    Difference,
    PairFindings,
    RankedRun,
    RunsComparison,
    TimeChange,
)
from ..schema.estimate import Estimate
from ..schema.findings import RunFindings
from .comparison_tables import comparison_table
from .comparison_words import CAUTION, comparison_lines
from .estimates import interval
from .markdown import markdown_table, safe, safe_code
from .terminal import print_line, print_table
from .wording import data_line, hardware_line, verdict_sentence, versions_line

_LONGEST = 800
_LONGEST_NOTE = 4_000
"""It counts the steps of each run, and there may be many; their names are cut in it."""
_PIPE_WIDTH = 120


def print_comparison(found: RunsComparison, console: Console) -> None:
    """Print the result first, then the table that it comes from, then what limits it."""
    lines = comparison_lines(found)
    results = [line for line in lines if line[0] in _RESULTS]
    for name, text in results:
        print_line(console, name, text, "bold" if name == "result" else "")
    console.print()
    print_table(console, comparison_table(found))
    console.print()
    for name, text in lines:
        if name not in _RESULTS:
            print_line(console, name, text)


_RESULTS = ("result", "explained by", "verdict", CAUTION)


def render_terminal(found: RunsComparison) -> str:
    """What `print_comparison` prints, without colours."""
    stream = io.StringIO()
    print_comparison(found, Console(file=stream, width=_PIPE_WIDTH, color_system=None))
    return stream.getvalue()


def render_markdown(found: RunsComparison) -> str:
    """The comparison as Markdown."""
    names = [safe(run.manifest.name) for run in found.runs]
    if found.pair is not None:
        title = f"{names[1]} beside {names[0]}"
    else:
        title = f"{len(names)} runs in the order of speed"
    lines = [f"# {title}", ""]
    table = markdown_table(comparison_table(found), longest_note=_LONGEST_NOTE)
    told = comparison_lines(found)
    for name, text in told:
        if name in _RESULTS:
            shown = safe(text, _LONGEST)
            lines.append(f"- **{shown}**." if name == "result" else f"- {safe(name)}: {shown}.")
    lines += ["", *table, "## What else differs, and what limits this", ""]
    lines += [
        f"- {safe(name)}: {safe(text, _LONGEST)}." for name, text in told if name not in _RESULTS
    ]
    lines += ["", "## The runs", ""]
    for run, name in zip(found.runs, names, strict=True):
        manifest = run.manifest
        lines += [
            f"- **{name}**: `{safe_code(manifest.command)}`",
            f"  - hardware: {safe(hardware_line(manifest.environment, manifest.device), 400)}",
            f"  - versions: {safe(versions_line(manifest.environment), 400)}",
            f"  - data: {safe(data_line(run))}",
        ]
    return "\n".join([*lines, ""])


def render_json(found: RunsComparison) -> str:
    """The comparison as indented JSON; unrounded numbers, null for what was not observed."""
    content = {
        "schema": COMPARISON_SCHEMA,
        "runs": [_run(run, drift) for run, drift in zip(found.runs, found.drifts, strict=True)],
        "in_turns": found.in_turns,
        "differences": [_difference(one) for one in found.differences],
        "pair": None if found.pair is None else _pair(found.pair),
        "ranking": [_ranked(one, found) for one in found.ranking] or None,
        "sentences": [f"{name}: {text}" for name, text in comparison_lines(found)],
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _run(run: RunFindings, drift: float | None) -> dict[str, Any]:
    manifest, steps, mean = run.manifest, run.breakdown.steps, run.breakdown.mean_step_ns
    verdict = run.verdicts[0]
    return {
        "name": manifest.name,
        "command": manifest.command,
        "started_at": manifest.started_at,
        "commit": manifest.environment.commit,
        "steps": 0 if steps is None else steps.count,
        "mean_step_ns": None if mean is None else mean.value,
        "mean_step_interval": None if mean is None else interval(mean),
        "drift_share": drift,
        "verdict": {
            "kind": verdict.kind,
            "severity": verdict.severity,
            "sentence": verdict_sentence(verdict, run),
        },
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "what": one.what,
        "unit": one.unit,
        "values": list(one.values),
        "decisive": one.is_decisive,
    }


def _pair(pair: PairFindings) -> dict[str, Any]:
    place = pair.place
    return {
        "mean_step": _times(pair.mean),
        "typical_step": _times(pair.typical),
        "sample": None if pair.per_sample is None else _times(pair.per_sample),
        "stages": {
            stage.value: None if times is None else {**_times(times), "part": times.part}
            for stage, times in pair.stages.items()
        },
        "explained_by": [stage.value for stage in pair.explained_by],
        "place": None if place is None else {**asdict(place), "stage": place.stage.value},
    }


def _times(times: TimeChange) -> dict[str, Any]:
    return {
        "base_ns": times.base_ns,
        "new_ns": times.new_ns,
        "change_ns": times.change_ns,
        **_ratio(times.ratio),
        "shows": None if times.change is None else times.change.value,
    }


def _ranked(one: RankedRun, found: RunsComparison) -> dict[str, Any]:
    return {
        "run": found.runs[one.run].manifest.name,
        "by": "sample" if found.by_sample else "step",
        "time_ns": one.time_ns,
        **_ratio(one.ratio),
        "letters": one.letters,
    }


def _ratio(ratio: Estimate | None) -> dict[str, Any]:
    return {
        "ratio": None if ratio is None else ratio.value,
        "ratio_interval": None if ratio is None else interval(ratio),
        "blocks": None if ratio is None else ratio.blocks,
    }
