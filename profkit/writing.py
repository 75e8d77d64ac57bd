"""Reports, checks and texts written to files: where, under which names, and over what."""

import os
import re
from pathlib import Path

from .errors import OutputError
from .schema.findings import Report
from .schema.gate import GateFindings
from .store.run_directory import write_file

FIGURES = "figures"
_LONGEST_FIGURE = 60
"""Letters of a run's name in the name of its figure's file."""
REPORT = "report.md"
CHECK_FILES = ("check.md", "junit.xml", "check.json")


def write_report(directory: Path, found: Report) -> Path:
    """Write `report.md` and its figures; returns the report's path.

    Raises:
        OutputError: `directory` cannot be written.
    """
    from .render.figures import draw_stage_bars, draw_timeline
    from .render.markdown import render_markdown
    from .render.units import one_line

    drawn = {"stages": ("Mean step and its stages", draw_stage_bars(found))}
    for number, run in enumerate(found.runs, 1):
        name = run.manifest.name
        file = f"timeline-{re.sub(r'[^A-Za-z0-9-]+', '-', name)[:_LONGEST_FIGURE]}"
        file = f"{file}-{number}" if file in drawn else file
        drawn[file] = (f"A few steps of {one_line(name, 30)}, to scale", draw_timeline(run))
    links = {}
    for file, (caption, svg) in drawn.items():
        if svg is not None:
            links[f"{FIGURES}/{file}.svg"] = caption
            write_file(directory / FIGURES / f"{file}.svg", svg.encode())
    path = directory / REPORT
    write_file(path, render_markdown(found, links).encode())
    return path


def check_free(out: Path, *, force: bool) -> None:
    """Make sure that the files of a check may be written to a directory.

    Raises:
        OutputError: it is none, cannot be written to, or holds one of them and `force` is not
            given.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is no directory: choose another path")
    # Better now than after a minute of measuring.
    above = next(one for one in (out.absolute(), *out.absolute().parents) if one.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise OutputError(f"cannot write {out}: {above} cannot be written to; choose another path")
    there = [name for name in CHECK_FILES if os.path.lexists(out / name)]
    if there and not force:
        raise OutputError(f"{out / there[0]} already exists: choose another path, or pass --force")


def write_check(out: Path, found: GateFindings, command: str | None) -> None:
    """Write what a check found, once for readers and twice for programs.

    Raises:
        OutputError: `out` cannot be written.
    """
    from .render.gate import render_gate_json, render_gate_markdown
    from .render.junit import render_junit

    contents = (
        render_gate_markdown(found, command).encode(),
        render_junit(found),
        render_gate_json(found).encode(),
    )
    for name, content in zip(CHECK_FILES, contents, strict=True):
        write_file(out / name, content)


def save_text(path: Path, text: str, *, force: bool = False) -> None:
    """Write a text file.

    Raises:
        OutputError: it cannot be written, or is there and `force` is not given.
    """
    if path.exists() and not force:
        raise OutputError(f"{path} already exists: choose another path, or pass --force")
    write_file(path, text.encode())
