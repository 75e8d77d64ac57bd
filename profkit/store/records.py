"""Run directories as facts."""

from pathlib import Path

from ..schema.record import RunRecord
from ..schema.steps import StepTable
from .names import MANIFEST, MARKS, REFERENCE, STEPS
from .run_directory import read_manifest
from .streams import read_marks, read_steps


def read_run(path: Path) -> RunRecord:
    """A run directory as facts.

    Raises:
        RunError: it is none, it is damaged, or it comes from a newer profkit.
    """
    manifest = read_manifest(path / MANIFEST)
    gaps: list[str] = []
    steps = read_steps(path / STEPS, gaps)
    reference = read_steps(path / REFERENCE, gaps) if (path / REFERENCE).exists() else None
    return RunRecord(
        manifest=manifest,
        steps=StepTable.empty() if steps is None else steps,
        marks=read_marks(path / MARKS, gaps),
        reference=reference,
        reading_gaps=tuple(gaps),
    )
