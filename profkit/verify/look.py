"""A short observed run of a program as it is: what predictions start from."""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from ..analyze.course import Course, course_of
from ..analyze.training_loader import training_loader
from ..analyze.what_if import LEAST_BATCHES, predict
from ..errors import ProfkitError
from ..interruption import postponed
from ..schema.fix import Fix, FixOrder, Knob
from ..schema.prediction import Change, Prediction, Question
from ..scripts.fix_order import fix_options
from ..scripts.start import run_command
from ..store.loader_record import read_loader_record
from ..store.records import read_run
from .places import Place
from .starts import variables

WARMUP_STEPS = 10
LOOK_STEPS = 200
"""Steps to look at, at most; fewer where the time is up."""
_CHANGES = {
    Knob.DATA: Change.MEMORY,
    Knob.WORKERS: Change.WORKERS,
    Knob.PREFETCH: Change.PREFETCH,
}


class Look:
    """What a program's own steps tell of fixes.

    Args:
        course: its batches; None where it could not be looked at.
        cores: that it may use.
        gap: why not.

    Attributes:
        probes: the same with other numbers of loader workers.
    """

    def __init__(self, course: Course | None, cores: int, gap: str | None = None) -> None:
        self.course = course
        self.cores = cores
        self.gap = gap
        self.probes: list[Course] = []

    def predict(self, fix: Fix) -> Prediction | None:
        """What a fix promises; None where the recorded batches do not tell."""
        change = _CHANGES.get(fix.knob)
        if self.course is None or change is None:
            return None
        question = Question(change, amount=float(fix.value or 0))
        found = predict("", self.course, self.cores, [question], self.probes)
        return found.answers[0]


def look_at(place: Place, run: Path, limit_s: float, cores: int, fixes: FixOrder) -> Look:
    """Run a program observed, for some steps.

    Args:
        place: where.
        run: run directory to write; what the program prints lies beside it.
        limit_s: for all of it; then it is ended, and what there is by then counts.
        cores: that it may use.
        fixes: what is applied to it.
    """
    options = ["--quiet", "--stop", "--steps", str(LOOK_STEPS), "--warmup", str(WARMUP_STEPS)]
    # Should this process be killed, the other end closes, and the run ends as well.
    tied, held = os.pipe()
    options += ["--out", str(run), "--tied", str(tied), *fix_options(fixes)]
    process: subprocess.Popen[bytes] | None = None
    try:
        with run.with_suffix(".log").open("wb") as output, postponed():
            process = subprocess.Popen(
                run_command(options, place.target),
                cwd=place.directory,
                env=variables(place),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(tied,),
            )
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.1, limit_s))
    finally:
        if process is not None:
            _end(process)
        os.close(tied)
        os.close(held)
    try:
        record = read_run(run)
        course = course_of(record, training_loader(record, read_loader_record(run)))
    except ProfkitError as error:
        return Look(None, cores, f"nothing could be predicted: {error}")
    if len(course) < LEAST_BATCHES:
        gap = f"nothing could be predicted: {len(course)} steps counted, {LEAST_BATCHES} are needed"
        return Look(None, cores, gap)
    return Look(course, cores)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of it, its loader workers as well."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
