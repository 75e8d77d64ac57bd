"""Records the steps of a training loop into a run directory, as it goes."""

import sys
import time
import warnings
from _thread import RLock
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from .errors import OutputError
from .interruption import pass_on
from .probe.command import shown_command
from .probe.environment import read_environment
from .probe.liveness import process_facts
from .probe.marks import Mark, Sink, StageClock
from .probe.steps import Steps
from .schema.run import COMPLETED, SCHEMA_VERSION, ProbeFacts, RunManifest
from .schema.steps import MarkTable, StepTable
from .store.rank_summary import summarize_run
from .store.run_directory import create_directory, write_manifest
from .store.streams import RunWriter

T = TypeVar("T")
R = TypeVar("R")

_CALIBRATION_STEPS = 200


class Recorder:
    """Marks the stages of a training loop and writes the steps to a run directory.

    A context manager: the run directory is made on entering, and how the loop ended is
    written on leaving. The loop's own exceptions pass through unchanged. Once the loop runs,
    nothing that goes wrong with recording breaks it: it becomes a warning and a gap.

    Args:
        path: the run directory; made by this.
        name: what reports call the run; the directory's name unless given.
        warmup: first steps to leave out of the times.
        overwrite: replace a run directory that is already there.
        manifest: what is known about the run already; made for this process unless given.
        make_clock: makes the clock around its sink.
        tell: takes the one line that says that recording has failed.
        step_cost_ns: measures what the marks of a step cost; that of explicit ones unless given.

    Attributes:
        stage: gives the mark of a stage for a `with` statement: `rec.stage("forward")`. The
            stages are transfer, forward, backward, optimizer and other. Nested marks count for
            the innermost one; outside a step a mark does nothing. Raises `InputError` for what
            is no stage.

    Raises:
        OutputError: on entering, when `path` cannot be written or holds something.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        warmup: int = 0,
        overwrite: bool = False,
        manifest: RunManifest | None = None,
        make_clock: Callable[[Sink], StageClock] | None = None,
        tell: Callable[[str], None] | None = None,
        step_cost_ns: Callable[[], int] | None = None,
    ) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._writer = RunWriter(self.path)
        self._broken = self._told = self._ended = False
        self._tell = tell or _warn
        self._step_cost_ns = step_cost_ns
        # Not only the loop's thread states something; a signal's handler may, amid a statement.
        self._stating = RLock()
        if make_clock is None:
            self._clock = StageClock(self._append, warmup=warmup)
        else:
            self._clock = make_clock(self._append)
        self.stage: Callable[[str], Mark] = self._clock.stage
        base = manifest if manifest is not None else new_manifest(name or self.path.name)
        self.manifest = base if name is None else replace(base, name=name)

    @property
    def clock(self) -> StageClock:
        """The clock behind the marks."""
        return self._clock

    def __enter__(self) -> "Recorder":
        create_directory(self.path, force=self._overwrite)
        self.begin()
        return self

    def begin(self) -> None:
        """Write what is known by now; for a directory that is there already.

        Raises:
            OutputError: it cannot be written.
        """
        write_manifest(self.path, self.manifest)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(COMPLETED if kind is None else f"stopped by {kind.__name__}")

    def steps(self, iterable: Iterable[T]) -> Steps[T]:
        """The batches of a loader; each request opens a step and closes the one before.

        The wait for the batch is the stage `dataloader`. Iterate it anew for each epoch.
        """
        return self._clock.steps(iterable)

    def call(self, name: str, function: Callable[..., R], *args: Any) -> R:
        """The result of `function(*args)`, marked, and visible to stack samplers.

        Raises:
            InputError: no such stage.
        """
        return self._clock.call(name, function, *args)

    def gap(self, text: str) -> None:
        """State something that could not be observed; reports show it, once."""
        with self._stating:
            if text not in self.manifest.gaps:
                self.state(gaps=(*self.manifest.gaps, text))

    def probe(self, facts: ProbeFacts) -> None:
        """State what a probe looked at and what it cost."""
        self.state(probes=(*self.manifest.probes, facts))

    def close(self, ended: str) -> None:
        """Write what is left, and how the run ended."""
        clock = self._clock
        clock.flush()
        self._write(self._writer.close)
        if self.manifest.rank is not None and not self._broken:
            try:
                summarize_run(self.path)
            except Exception as error:  # the steps are there: the report reads them instead
                pass_on(error)
                self._tell_once(f"the rank's summary cannot be written to {self.path}", error)
        self._ended = True
        if clock.foreign_steps:
            self.gap(f"{clock.foreign_steps} loops in other threads were not recorded")
        if clock.is_open and clock.inner_batches:
            self.gap(
                f"a loop over steps() was never finished, and {clock.inner_batches} batches asked "
                "for meanwhile count as part of its last step: was its iterator kept?"
            )
        self.probe(
            ProbeFacts(
                name="clock",
                steps=clock.count,
                wall_ns=clock.sink_ns,
                step_ns=(self._step_cost_ns or _clock_cost_ns)(),
                detail="step_ns: marks in each step (calibrated on empty ones); wall_ns: writing, "
                "all of it between steps",
            )
        )
        self.state(ended=ended)

    def state(self, **changes: Any) -> None:
        """Say more about the run: fields of its manifest."""
        with self._stating:
            self.manifest = replace(self.manifest, **changes)
            # At once: a run that is killed later still says what is known by now.
            try:
                self._save(self.manifest)
            except Exception as error:  # recording must never break the training it watches
                pass_on(error)
                # What may pass, such as too many open files, is said where it lasts to the end.
                if self._ended or isinstance(error, FileNotFoundError):
                    what = f"what is known of the run cannot be written to {self.path}"
                    self._tell_once(what, error)

    def _save(self, manifest: RunManifest) -> None:
        # A directory that was removed comes back only when the program is over: until then it is
        # the program's business, which may be about to make it anew.
        if not self._ended and not self.path.is_dir():
            raise FileNotFoundError("the run directory was removed")
        write_manifest(self.path, manifest)

    def _append(self, steps: StepTable, marks: MarkTable) -> None:
        if not self._broken:
            self._write(lambda: self._writer.append(steps, marks))

    def _write(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:  # likewise
            pass_on(error)
            self._broken = True
            self._tell_once(f"recording to {self.path} stopped", error)
            self.gap(f"writing stopped after {self._clock.count} steps: {_reason(error)}")

    def _tell_once(self, what: str, error: Exception) -> None:
        if not self._told:
            self._told = True
            self._tell(f"{what}: {_reason(error)}; the training goes on")


def _reason(error: Exception) -> str:
    """Why something could not be written; without the path, which may be a private one."""
    cause = error.__cause__ if isinstance(error, OutputError) else error
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error)


def _warn(text: str) -> None:
    try:
        warnings.warn(f"profkit: {text}", RuntimeWarning, stacklevel=2)
    except RuntimeWarning as warning:  # under `-W error` it would end the training
        with suppress(Exception):
            sys.stderr.write(f"{warning}\n")


def new_manifest(name: str) -> RunManifest:
    """The manifest of a run that starts now, in this process."""
    return _manifest(name, shown_command(sys.argv))


def _manifest(name: str, command: str) -> RunManifest:
    return RunManifest(
        schema=SCHEMA_VERSION,
        name=name,
        command=command,
        started_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ended=None,
        device=None,
        environment=read_environment(),
        process=process_facts(),
    )


def _clock_cost_ns() -> int:
    """What the marks of a whole step cost here and now: a loop of empty marks."""
    clock = StageClock(lambda steps, marks: None)
    stages = ("transfer", "forward", "backward", "optimizer")
    began = time.perf_counter_ns()
    for _ in clock.steps(range(_CALIBRATION_STEPS)):
        for name in stages:
            with clock.stage(name):
                pass
    return (time.perf_counter_ns() - began) // _CALIBRATION_STEPS
