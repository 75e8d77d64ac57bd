"""Run directories beside each other: found, named apart, and refused where times say nothing."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .analyze.breakdown import active_rows
from .analyze.comparability import find_differences
from .analyze.run_comparison import compare_runs
from .errors import InputError
from .reading import run_findings
from .render.comparison_words import difference_sentence
from .schema.comparison import RunsComparison
from .schema.record import RunRecord
from .store.rank_directories import find_ranks
from .store.records import read_run
from .store.run_directory import find_runs

_LONGEST_LIST = 5


def compare_directories(places: Sequence[Path], *, anyway: bool) -> RunsComparison:
    """Two or more runs beside each other.

    Args:
        places: run directories, or directories that hold one; a single one that holds several.
        anyway: compare times that say nothing about each other.

    Raises:
        InputError: fewer than two runs, the ranks of a launch, a run without a step that counts,
            or runs whose hardware, data or batch size differ.
        RunError: one of them is no run, is damaged, or comes from a newer profkit.
    """
    paths = _run_paths(places)
    records = _named_apart(paths, [read_run(path) for path in paths])
    for path, record in zip(paths, records, strict=True):
        if not active_rows(record.steps, drained=True).size:
            raise InputError(f"{path}: none of its steps counts in the times: record more of them")
    differences = find_differences(records)
    names = [record.manifest.name for record in records]
    decisive = [one for one in differences if one.is_decisive]
    if decisive and not anyway:
        words = "; ".join(difference_sentence(one, names) for one in decisive)
        raise InputError(
            f"times of runs that differ in {words} say nothing about each other: pass --anyway to "
            "compare them all the same"
        )
    findings = [run_findings(path, one) for path, one in zip(paths, records, strict=True)]
    return compare_runs(records, findings, differences)


def _run_paths(places: Sequence[Path]) -> list[Path]:
    """One run directory for each place; all that it holds for a single place."""
    paths: list[Path] = []
    for place in places:
        ranks = find_ranks(place)
        if ranks:
            raise InputError(
                f"{place} holds the ranks of a launch: name one rank's directory, such as "
                f"{ranks[0].path}"
            )
        found = find_runs(place)
        if len(found) > 1 and len(places) > 1:
            names = ", ".join(run.name for run in found[:_LONGEST_LIST])
            more = ", ..." if len(found) > _LONGEST_LIST else ""
            raise InputError(f"{place} holds {len(found)} runs: name one of them ({names}{more})")
        paths += found
    if len(paths) < 2:
        raise InputError(f"{places[0]} is one run: name another one to compare it with")
    known: set[Path] = set()
    for path in paths:
        if path.resolve() in known:
            raise InputError(f"{path} is given twice: name two different runs")
        known.add(path.resolve())
    return paths


def _named_apart(paths: Sequence[Path], records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs with names that tell them apart: their own, else where they lie."""
    names = [record.manifest.name for record in records]
    whole = [path.resolve().parts for path in paths]
    depth = 0
    while len(set(names)) < len(names):
        depth += 1
        names = ["/".join(parts[-depth:]) for parts in whole]
    return [
        replace(record, manifest=replace(record.manifest, name=name))
        for record, name in zip(records, names, strict=True)
    ]
