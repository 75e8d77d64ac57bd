"""How a recorded run ended: what it said itself, else what a signal or its process tells."""

from pathlib import Path

from ..probe.liveness import is_alive
from ..schema.findings import EndingKind, RunEnding
from ..schema.record import RunRecord
from .signals import read_death


def read_ending(run: Path, recorded: RunRecord) -> RunEnding:
    """How a run ended, as far as it can be told here and now.

    Args:
        run: its directory.
        recorded: what was read from it.
    """
    manifest, steps = recorded.manifest, recorded.steps
    last_step_ns = int(steps.end_ns[-1] - steps.start_ns[0]) if len(steps) else None
    if manifest.ended is not None:
        return RunEnding(EndingKind.RECORDED, manifest.ended, last_step_ns)
    if (death := read_death(run)) is not None:
        return RunEnding(EndingKind.SIGNAL, death, last_step_ns)
    alive = None if manifest.process is None else is_alive(manifest.process)
    kind = {True: EndingKind.RUNNING, False: EndingKind.KILLED, None: EndingKind.UNKNOWN}[alive]
    return RunEnding(kind, None, last_step_ns)
