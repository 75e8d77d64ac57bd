"""GateFindings -> Markdown, a terminal, JSON."""

from typing import Any

import msgspec
from rich.console import Console

from ..schema.estimate import Estimate
from ..schema.gate import GateFindings, StageChange, Version
from ..schema.stage import STAGES, Stage
from .gate_words import (
    OUTCOMES,
    explanation,
    gate_facts,
    gate_sentence,
    limit,
    limited,
    measured,
    name_of,
    remarks,
    verdict_word,
)
from .markdown import markdown_table, safe, safe_code
from .tables import Table
from .terminal import print_line, print_table
from .units import (
    ABSENT,
    beside_limit,
    milliseconds,
    one_line,
    percent,
    signed_milliseconds,
)

GATE_SCHEMA = 1
"""Version of the JSON. History: 1, the first one (2026-12)."""
_LONGEST = 600


def decision_table(found: GateFindings) -> Table:
    """Each limit and what is held against it."""
    rows = [
        (limited(one), measured(one), limit(one), OUTCOMES[one.outcome]) for one in found.decisions
    ]
    note = None if rows else "No limit could be judged."
    head = ("limit on", "measured", "limit", "outcome")
    return Table("Limits", head, tuple(rows), (False, True, True, False), note)


def version_table(found: GateFindings) -> Table:
    """The stages of the versions beside each other."""
    base, new = found.base, found.new
    if base is None:
        rows = [(stage.label, _ms(new.stage_ns.get(stage)), _share(new, stage)) for stage in STAGES]
        rows.append(("mean step", milliseconds(new.mean_step_ns), "100 %"))
        rows.append(("typical step", milliseconds(new.step_ns), ""))
        head: tuple[str, ...] = ("stage", "ms", "share")
        return Table("Mean time in a step", head, tuple(rows), (False, True, True))
    changes = {one.stage: one for one in found.changes}
    compared = [
        (
            stage.label,
            _ms(base.stage_ns.get(stage)),
            _ms(new.stage_ns.get(stage)),
            *_change(changes.get(stage)),
        )
        for stage in STAGES
    ]
    for name, before, after in (
        ("mean step", base.mean_step_ns, new.mean_step_ns),
        ("typical step", base.step_ns, new.step_ns),
    ):
        difference = signed_milliseconds(after - before)
        compared.append((name, milliseconds(before), milliseconds(after), difference, ""))
    head = ("stage", f"{name_of(base)}, ms", f"{name_of(new)}, ms", "change, ms", "change")
    note = f"{ABSENT}: not observed. The ratios of the steps stand among the limits."
    return Table(
        "Mean time in a step", head, tuple(compared), (False, True, True, True, True), note
    )


def _ms(value_ns: float | None) -> str:
    return ABSENT if value_ns is None else milliseconds(value_ns)


def _share(version: Version, stage: Stage) -> str:
    taken = version.stage_ns.get(stage)
    if taken is None or not version.mean_step_ns > 0:
        return ABSENT
    return percent(taken / version.mean_step_ns)


def _change(change: StageChange | None) -> tuple[str, str]:
    if change is None:
        return ABSENT, ABSENT
    ratio = ABSENT if change.ratio is None else beside_limit(change.ratio, "ratio")
    return signed_milliseconds(change.change_ns), ratio


def render_gate_markdown(found: GateFindings, command: str | None = None) -> str:
    """The result as Markdown, the verdict in its first line; fit for a CI job's summary.

    Args:
        found: what was found.
        command: with which to check the same again.
    """
    lines = [f"# profkit check: {verdict_word(found)}", ""]
    lines += [f"**{safe(gate_sentence(found), _LONGEST)}**", ""]
    if reason := explanation(found):
        lines.append(f"- What explains it: {safe(reason, _LONGEST)}.")
    lines += [f"- {safe(text, _LONGEST)}." for text in remarks(found)]
    lines += ["", *markdown_table(decision_table(found)), *markdown_table(version_table(found))]
    lines += ["## How it was measured", ""]
    lines += [f"- {name}: {safe(text, _LONGEST)}" for name, text in gate_facts(found)]
    if command is not None:
        lines.append(f"- again: `{safe_code(command)}`")
    lines += ["", "## Gaps", ""]
    lines += [f"- {safe(gap, 400)}" for gap in found.gaps] or ["- none"]
    return "\n".join([*lines, ""])


def print_gate(found: GateFindings, console: Console) -> None:
    """Print the same, in short."""
    print_table(console, decision_table(found))
    print_table(console, version_table(found))
    for name, text in gate_facts(found):
        print_line(console, name, text)
    for gap in found.gaps:
        print_line(console, "gap", one_line(gap, 400))
    console.print()
    print_line(console, verdict_word(found), gate_sentence(found), "bold")
    if reason := explanation(found):
        print_line(console, "explained by", reason)
    for text in remarks(found):
        print_line(console, "note", text)


def render_gate_json(found: GateFindings) -> str:
    """The findings as indented JSON; unrounded numbers, null for what was not observed."""
    content = {
        "schema": GATE_SCHEMA,
        "outcome": found.outcome.value,
        "sentence": gate_sentence(found),
        "decisions": [
            {
                "what": one.what,
                "unit": one.unit,
                **_value(one.estimate),
                "limit": one.limit,
                "outcome": one.outcome.value,
            }
            for one in found.decisions
        ],
        "base": found.base,
        "new": found.new,
        "changes": [
            {
                "stage": one.stage.value,
                "change_ns": one.change_ns,
                "ratio": None if one.ratio is None else _value(one.ratio),
            }
            for one in found.changes
        ],
        "noise": found.noise,
        "environment": found.environment,
        "device": found.device,
        "looks": found.looks,
        "measured_s": found.measured_s,
        "wall_s": found.wall_s,
        "gaps": found.gaps,
        "rounds": found.rounds,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def _value(estimate: Estimate) -> dict[str, Any]:
    known = estimate.low is not None and estimate.high is not None
    return {
        "value": estimate.value,
        "interval": [estimate.low, estimate.high] if known else None,
        "blocks": estimate.blocks,
    }
