"""A run directory, read: its manifest and its columns."""

from dataclasses import dataclass

from .run import RunManifest
from .steps import MarkTable, StepTable


@dataclass(frozen=True, slots=True, eq=False)
class RunRecord:
    """A run directory, read.

    `reference` holds steps of the same loop without loader workers, to tell contention from slow
    loading: in turns with these where the run has a group (see `RunManifest`), else of a process
    of its own. None where there are none.
    """

    manifest: RunManifest
    steps: StepTable
    marks: MarkTable
    reference: StepTable | None = None
    reading_gaps: tuple[str, ...] = ()
    """What was missing or cut short on disk."""
