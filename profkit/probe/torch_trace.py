"""A traced pass: the stage clock's marks as ranges of a `torch.profiler` trace."""

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

import msgspec
import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from ..errors import InputError, OutputError, ProbeError, RunError
from ..schema.steps import Flag, MarkTable, StepTable
from ..store.chrome_trace import FULL_TRACE, OPERATOR_SOURCES, read_trace
from .marks import Listener, Sink, StageClock
from .operator_sources import operator_sources
from .ranges import Ranges

T = TypeVar("T")

_TRACE, _SOURCES = 1, 2
"""Phases of a pass, after the warm-up."""
_KINETO_ERRORS_ONLY = "6"
"""Above Kineto's own `USDT:` lines, which it prints at every start and stop."""


class TorchPass:
    """Traces some steps of a training loop, then one more with call stacks.

    The loop is the caller's own; it ends by itself when enough steps were traced, and begins
    the loader anew where one epoch is too short. A loader that can be read only once, or a
    `break`, ends the trace early. Starting, stopping and exporting fall between steps::

        with TorchPass(directory, device="cpu", warmup=2, steps=5) as traced:
            for images, labels in traced.steps(loader):
                with traced.clock.stage("forward"):
                    loss = criterion(model(images), labels)
                ...
        traced.table       # the traced steps as the marks saw them
        traced.trace_path  # directory/trace.json.gz, as torch wrote it
        traced.gap         # None, or why there is no operator_sources.json

    Args:
        directory: where the files go; made if absent.
        device: `cpu`, or `cuda` to trace what runs on the GPU as well.
        warmup: steps before the trace begins.
        steps: steps to trace.
        sources: whether to trace one more step with call stacks. It costs seconds, so it is
            never among the traced ones; its trace is deleted once it has been read.
        make_clock: makes the clock from its sink, capacity and listener; a plain one if not given.

    Raises:
        InputError: a negative count, no step to trace, or an unknown device.
        ProbeError: another profiler is active, no CUDA tracing here, the profiler failed, or
            the loader gave no batch. On entering, in the loop or on leaving; the loop's own
            exceptions pass through, and then nothing is exported.
        OutputError: `directory` cannot be written.
    """

    def __init__(
        self,
        directory: Path,
        *,
        device: str = "cpu",
        warmup: int = 2,
        steps: int = 5,
        sources: bool = True,
        make_clock: Callable[[Sink, int, Listener], StageClock] | None = None,
    ) -> None:
        if warmup < 0 or steps < 1:
            raise InputError(
                f"cannot trace {steps} steps after {warmup}: take at least 1 step, after 0 or more"
            )
        if device.partition(":")[0] not in ("cpu", "cuda"):
            raise InputError(f"cannot trace on {device!r}: use cpu or cuda")
        self.trace_path = directory / FULL_TRACE
        self.sources_path = directory / OPERATOR_SOURCES
        self.gap: str | None = None
        self._ranges = Ranges()
        make = make_clock or _plain_clock
        # A capacity of one step: the sink is called after each.
        self.clock = make(self._after_step, 1, self._ranges)
        self._cuda = device.startswith("cuda")
        self._wanted = (warmup, steps, int(sources))
        self._left = warmup
        self._phase = 0
        self._traced: list[StepTable] = []
        self._profile: profile | None = None

    @property
    def done(self) -> bool:
        """Whether all the steps asked for have gone by."""
        return self._phase == len(self._wanted)

    @property
    def table(self) -> StepTable:
        """The traced steps, as their marks saw them: one row a `ProfilerStep#` range."""
        return StepTable.concatenate(self._traced)

    def steps(self, loader: Iterable[T]) -> Iterator[T]:
        """The batches of a loader for as long as the pass lasts; marks the steps."""
        while not self.done:
            before = self.clock.count
            yield from self.clock.steps(_Until(loader, self))
            if self.clock.count == before:
                return

    def __enter__(self) -> "TorchPass":
        try:
            self.trace_path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.trace_path.parent, error) from None
        # Prepared already here, so that CUPTI's set-up falls into the warm-up.
        self._profile = self._prepared()
        self._advance()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            # The loop's own error is the one to hear of.
            with suppress(ProbeError):
                self._discard()
            return
        try:
            self.clock.flush()
            if not self._traced:
                warmup = self._wanted[0]
                raise ProbeError(
                    f"the loader gave {self.clock.count} batches, {warmup} of them to warm up: "
                    "nothing was traced"
                )
            if self._phase == _TRACE:
                self._export_steps()
            if self._wanted[_SOURCES] and not self.done:
                self.gap = "the loop ended before the step with call stacks"
        finally:
            self._discard()

    def _after_step(self, steps: StepTable, marks: MarkTable) -> None:
        """The clock's sink: between two steps, so nothing here falls into one."""
        if self.done:
            return
        if self._phase == _TRACE:
            self._traced.append(steps)
        # A loop of evaluation before the training warms nothing up.
        self._left -= int(((steps.flags & Flag.EVALUATION.value) == 0).sum())
        self._advance()

    def _advance(self) -> None:
        """Go on to the next phase whose steps are still to come."""
        while not self.done and self._left <= 0:
            if self._phase == _TRACE:
                self._export_steps()
            elif self._phase == _SOURCES and self._profile is not None:
                self._guard_sources(self._export_sources)
            self._phase += 1
            self._left = 0 if self.done else self._wanted[self._phase]
            if self._left and self._phase == _TRACE:
                self._start()
            elif self._left and not self._guard_sources(self._start_with_stacks):
                self._left = 0

    def _start(self) -> None:
        _refuse_another_profiler()
        if self._profile is not None:
            self._call(self._profile.start_trace)
            self._ranges.annotating = True

    def _start_with_stacks(self) -> None:
        self._profile = self._prepared(with_stack=True)
        self._start()

    def _guard_sources(self, act: Callable[[], None]) -> bool:
        try:
            act()
        except (ProbeError, RunError) as error:
            # The trace itself is written; only the places of its operators stay unknown.
            self.gap = f"no call places of operators: {error}"
            return False
        return True

    def _prepared(self, *, with_stack: bool = False) -> profile:
        _refuse_another_profiler()
        activities = [ProfilerActivity.CPU]
        if self._cuda:
            known = torch.profiler.supported_activities()  # type: ignore[no-untyped-call]
            if ProfilerActivity.CUDA not in known or not torch.cuda.is_available():
                raise ProbeError("this torch cannot trace CUDA: no GPU, or built without CUPTI")
            activities.append(ProfilerActivity.CUDA)
        # Read when Kineto logs for the first time; whoever set it before meant it.
        os.environ.setdefault("KINETO_LOG_LEVEL", _KINETO_ERRORS_ONLY)
        prepared = profile(
            activities=activities,
            with_stack=with_stack,
            # Only `verbose` writes the call stack of each operator into the trace.
            experimental_config=_ExperimentalConfig(verbose=True) if with_stack else None,
            # True would build a Python object an event: 8 s instead of 0.85 s to stop.
            acc_events=False,
        )
        self._call(prepared.prepare_trace)
        return prepared

    def _export(self, path: Path) -> None:
        """End the recording and write it as JSON."""
        self._ranges.annotating = False
        active, self._profile = self._profile, None
        if active is not None:
            self._call(active.stop_trace)
            self._call(lambda: active.export_chrome_trace(str(path)))

    def _export_steps(self) -> None:
        with tempfile.TemporaryDirectory(prefix="profkit-") as scratch:
            plain = Path(scratch, "trace.json")
            self._export(plain)
            try:
                _compress(plain, self.trace_path)
            except OSError as error:
                raise _unwritable(self.trace_path, error) from None

    def _export_sources(self) -> None:
        with tempfile.TemporaryDirectory(prefix="profkit-") as scratch:
            plain = Path(scratch, "trace.json")
            self._export(plain)
            sources = operator_sources(read_trace(plain))
        content = msgspec.json.format(msgspec.json.encode(sources, order="sorted"), indent=2)
        try:
            self.sources_path.write_bytes(content)
        except OSError as error:
            raise _unwritable(self.sources_path, error) from None

    def _discard(self) -> None:
        """Leave no recording behind, whatever happened."""
        self._ranges.annotating = False
        active, self._profile = self._profile, None
        if active is not None and active.profiler is not None:
            if not torch._C._autograd._profiler_enabled():
                # Prepared only: Kineto leaves that state through a start alone.
                self._call(active.start_trace)
            self._call(active.stop_trace)

    def _call(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (RuntimeError, AssertionError, OSError) as error:
            self._profile = None
            self._ranges.annotating = False
            words = (str(error) or type(error).__name__).splitlines()[0]
            raise ProbeError(f"torch.profiler failed: {words}") from None


def _plain_clock(sink: Sink, capacity: int, listener: Listener) -> StageClock:
    return StageClock(sink, capacity=capacity, listener=listener)


class _Until(Generic[T]):
    """The batches of a loader until the pass is done."""

    def __init__(self, loader: Iterable[T], traced: TorchPass) -> None:
        self._loader = loader
        self._traced = traced

    def __iter__(self) -> Iterator[T]:
        # The loader's iterator is made at once: worker start-up belongs to no step.
        return self._until_done(iter(self._loader))

    def _until_done(self, batches: Iterator[T]) -> Generator[T, None, None]:
        while not self._traced.done:
            try:
                batch = next(batches)
            except StopIteration:
                return
            yield batch
            del batch


def _refuse_another_profiler() -> None:
    # Starting a second one would end the first one's session without a word.
    if torch._C._autograd._profiler_enabled():
        raise ProbeError("another torch profiler is active: end it before tracing")


def _compress(plain: Path, compressed: Path) -> None:
    # Without name and time in the header, the same trace gives the same bytes.
    with (
        plain.open("rb") as source,
        compressed.open("wb") as target,
        gzip.GzipFile("", "wb", 1, target, 0) as stream,
    ):
        shutil.copyfileobj(source, stream, 1 << 20)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror}")
