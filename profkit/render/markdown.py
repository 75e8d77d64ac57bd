"""Report -> Markdown."""

import re
from collections.abc import Mapping

from ..schema.findings import Report, RunFindings
from ..schema.loader_findings import LoaderFindings
from ..schema.ranks import RanksFindings
from .changes import best_line
from .loader import loader_sentences, loader_table
from .ranks import rank_sentences, rank_table
from .tables import Table, drilldown_table, stage_table
from .units import one_line, plural, times
from .wording import (
    comparison_sentence,
    data_line,
    ending_line,
    hardware_line,
    other_line,
    probe_cost,
    step_estimate,
    verdict_sentence,
    versions_line,
)


def render_markdown(report: Report, figures: Mapping[str, str] | None = None) -> str:
    """The report as Markdown.

    Args:
        report: what was found.
        figures: relative link → caption of each figure that lies beside the text.
    """
    names = " and ".join(safe(run.manifest.name) for run in report.runs)
    lines = [f"# Where the step's time goes: {names}", ""]
    if report.ranks is not None:
        lines += [f"- {safe(text, 400)}." for text in rank_sentences(report.ranks)]
    lines += _verdicts(report)
    lines += markdown_table(stage_table(report))
    for run in report.runs:
        if other := other_line(run):
            prefix = f"**{safe(run.manifest.name)}**: " if len(report.runs) > 1 else ""
            lines += [f"{prefix}{safe(other, 600)}", ""]
    if report.comparison is not None:
        compared = report.comparison
        lines += [
            f"**{safe(compared.other)} over {safe(compared.base)}: {times(compared.speedup)}**, "
            f"from {plural(compared.speedup.blocks, 'pair')} of blocks that took turns in one "
            "process.",
            "",
        ]
    elif len(report.runs) > 1 and report.ranks is None:
        lines += [
            "The runs did not take turns in one process, so no speedup is given: the machine's "
            "own drift stands between them.",
            "",
        ]
    if report.ranks is not None:
        lines += _ranks_section(report.ranks)
    for link, caption in (figures or {}).items():
        lines += [f"![{safe(caption)}]({link})", "", f"*{safe(caption)}*", ""]
    for run in report.runs:
        lines += _run_section(run)
    return "\n".join(lines)


def _verdicts(report: Report) -> list[str]:
    lines = []
    for run in report.runs:
        comparison = report.comparison if run is report.runs[0] else None
        main, *others = run.verdicts
        sentence = safe(verdict_sentence(main, run, comparison), 400)
        lines.append(f"- **{safe(run.manifest.name)}** is **{sentence}**.")
        lines.append(f"  - next: {safe(main.advice, 400)}")
        for verdict in others:
            lines.append(f"  - also {safe(verdict_sentence(verdict, run, comparison), 400)}.")
            lines.append(f"    - next: {safe(verdict.advice, 400)}")
        if (promised := best_line(run.what_if, comparison)) is not None:
            lines.append(f"  - what if: {safe(promised, 400)}")
    if report.comparison is not None and not any(
        verdict.stage is not None and verdict.stage.value == "dataloader"
        for verdict in report.runs[0].verdicts
    ):
        lines.append(f"- Measured: {safe(comparison_sentence(report.comparison), 400)}.")
    return [*lines, ""]


def _ranks_section(ranks: RanksFindings) -> list[str]:
    lines = [*markdown_table(rank_table(ranks)), "### Gaps between the ranks", ""]
    lines += [f"- {safe(gap, 400)}" for gap in ranks.gaps] or ["- none"]
    return [*lines, ""]


def _run_section(run: RunFindings) -> list[str]:
    manifest = run.manifest
    lines = [f"## {safe(manifest.name)}", ""]
    facts = {
        "command": f"`{safe_code(manifest.command)}`",
        "started": safe(manifest.started_at),
        "ended": safe(ending_line(run.ending), 300),
        "hardware": safe(hardware_line(manifest.environment, manifest.device), 400),
        "versions": safe(versions_line(manifest.environment), 400),
        "data": safe(data_line(run)),
    }
    if manifest.loader is not None:
        loader = manifest.loader
        facts["fed from"] = safe(
            loader.source
            if loader.num_workers is None
            else f"{loader.source}, {plural(loader.num_workers, 'worker')}"
        )
    mean = run.breakdown.mean_step_ns
    if mean is not None:
        facts["mean step"] = (
            f"{step_estimate(mean)}, 95 % interval over {plural(mean.blocks, 'block')}"
        )
    lines += [f"- {name}: {text}" for name, text in facts.items()]
    lines.append("")
    if run.loader is not None:
        lines += _loader_section(run.loader)
    for found in run.drilldown:
        lines += markdown_table(drilldown_table(found), level=3)
    lines += ["### What the probes cost", ""]
    lines += [f"- {safe(name)}: {safe(text)}" for name, text in probe_cost(run)] or [
        "- not recorded"
    ]
    lines += ["", "### Gaps", ""]
    lines += [f"- {safe(gap, 400)}" for gap in run.gaps] or ["- none"]
    return [*lines, ""]


def _loader_section(found: LoaderFindings) -> list[str]:
    table = loader_table(found)
    lines = [] if table is None else markdown_table(table, level=3)
    return [*lines, *(f"- {safe(text, 400)}" for text in loader_sentences(found)), ""]


def markdown_table(table: Table, level: int = 2, *, longest_note: int = 400) -> list[str]:
    """The lines of a table below a heading of this level."""
    lines = [f"{'#' * level} {safe(table.title)}", ""]
    if table.rows:
        lines.append("| " + " | ".join(map(safe, table.head)) + " |")
        lines.append("|" + "|".join("---:" if n else "---" for n in table.numbers) + "|")
        lines += ["| " + " | ".join(safe(cell, 160) for cell in row) + " |" for row in table.rows]
        lines.append("")
    if table.note:
        lines += [safe(table.note, longest_note), ""]
    return lines


def safe(text: str, limit: int = 200) -> str:
    """Text from outside: one line, no markup of its own."""
    return re.sub(r"([\\`*_{}\[\]<>|#!~])", r"\\\1", one_line(text, limit))


def safe_code(text: str) -> str:
    """Text from outside that stands in a code span."""
    return one_line(text, 400).replace("`", "'")
