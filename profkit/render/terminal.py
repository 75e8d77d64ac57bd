"""Report -> a terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from ..schema.findings import EndingKind, Report
from ..schema.run import COMPLETED
from .changes import best_line
from .loader import loader_sentences, loader_table
from .ranks import rank_sentences, rank_table
from .tables import Table, drilldown_table, stage_table
from .units import one_line, times
from .wording import (
    data_line,
    ending_line,
    hardware_line,
    other_line,
    probe_cost,
    verdict_sentence,
    versions_line,
)

_LONGEST_LINE = 800


def print_report(report: Report, console: Console) -> None:
    """Print machine, data, stages, verdicts and the first run's drill-down.

    The drill-down of the other runs stands in the Markdown report only: a screen holds one.
    """
    first = report.runs[0]
    environment = first.manifest.environment
    print_line(console, "hardware", hardware_line(environment, first.manifest.device))
    print_line(console, "versions", versions_line(environment))
    if first.manifest.data is not None or first.manifest.loader is not None:
        print_line(console, "data", data_line(first))
    console.print()
    print_table(console, stage_table(report))
    for run in report.runs:
        if other := other_line(run):
            several = len(report.runs) > 1
            prefix = f"{one_line(run.manifest.name, 30)}: " if several else ""
            console.print(Text(f"  {prefix}{other}"), soft_wrap=True)
    if report.comparison is not None:
        compared = report.comparison
        speedup = f"{one_line(compared.other)} over {one_line(compared.base)}"
        print_line(console, "speedup", f"{speedup}: {times(compared.speedup)}")
    console.print()
    if report.ranks is not None:
        print_table(console, rank_table(report.ranks))
        for text in rank_sentences(report.ranks):
            print_line(console, "ranks", text, "bold")
        console.print()
    for run in report.runs:
        comparison = report.comparison if run is first else None
        main, *others = run.verdicts
        sentence = verdict_sentence(main, run, comparison)
        print_line(console, f"verdict, {one_line(run.manifest.name, 30)}", sentence, "bold")
        print_line(console, "  next", main.advice)
        for verdict in others:
            print_line(console, "  also", verdict_sentence(verdict, run, comparison))
            print_line(console, "    next", verdict.advice)
        if (promised := best_line(run.what_if, comparison)) is not None:
            print_line(console, "  what if", promised)
    if first.loader is not None:
        console.print()
        if (table := loader_table(first.loader)) is not None:
            print_table(console, table)
        for text in loader_sentences(first.loader):
            print_line(console, "loader", text)
    for found in first.drilldown:
        console.print()
        print_table(console, drilldown_table(found))
    console.print()
    costs = "; ".join(f"{name}: {text}" for name, text in probe_cost(first))
    print_line(console, "probes cost", costs)
    for gap in () if report.ranks is None else report.ranks.gaps:
        print_line(console, "gap, ranks", one_line(gap, 300))
    for run in report.runs:
        if run.ending.kind is EndingKind.RECORDED and run.manifest.ended != COMPLETED:
            print_line(
                console, f"ended, {one_line(run.manifest.name, 30)}", ending_line(run.ending)
            )
        for gap in run.gaps:
            print_line(console, f"gap, {one_line(run.manifest.name, 30)}", one_line(gap, 300))


def print_line(console: Console, name: str, text: str, style: str = "") -> None:
    """Print a named line, however long: a terminal wraps it."""
    text = one_line(text, _LONGEST_LINE)
    console.print(Text.assemble((f"{name}: ", "dim"), (text, style)), soft_wrap=True)


def print_table(console: Console, table: Table) -> None:
    """Print a table; only its last column of words may be cut."""
    console.print(Text(one_line(table.title), "bold"))
    drawn = RichTable(box=SIMPLE_HEAD, pad_edge=False)
    for name, number in zip(table.head, table.numbers, strict=True):
        drawn.add_column(Text(name), justify="right" if number else "left", no_wrap=True)
    # Half a place or number is of no use.
    widths = [max(map(len, column)) + 3 for column in zip(table.head, *table.rows, strict=True)]
    room = max(12, console.width - sum(widths[:-1]) - 4)
    for row in table.rows:
        last = row[-1] if table.numbers[-1] else one_line(row[-1], room)
        drawn.add_row(*(Text(cell) for cell in (*row[:-1], last)))
    if table.rows:
        console.print(drawn)
    if table.note:
        console.print(Text(f"  {one_line(table.note, _LONGEST_LINE)}", "dim"), soft_wrap=True)
