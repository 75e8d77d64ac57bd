"""Observes a program by hooks: its steps go to a run directory until it ends."""

import os
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from .interruption import pass_on
from .probe.compilation import COMPILER, watch_compilation
from .probe.core_waits import CoreWatch
from .probe.environment import read_environment, read_settings
from .probe.heartbeat import Heartbeat
from .probe.hooks import Hooks
from .probe.import_watch import when_imported
from .probe.liveness import process_facts
from .probe.loader_anatomy import LoaderAnatomy
from .probe.loop_clock import LoopClock
from .probe.marks import Listener, Sink, StageClock
from .probe.sample_windows import SampleWindows
from .recorder import Recorder
from .schema.run import (
    SCHEMA_VERSION,
    Apart,
    Environment,
    RankFacts,
    RunManifest,
)
from .schema.stage import Stage
from .store.batches import loader_directory
from .watching import activate

_HEARTBEAT_S = 0.25
_CALIBRATION_MARKS = 2_000
_observing: "weakref.WeakSet[LoopClock]" = weakref.WeakSet()
_fork_hook_set = False


@dataclass(frozen=True, slots=True)
class Order:
    """What to observe.

    Attributes:
        path: run directory; there already, and empty.
        name: what reports call the run.
        command: fit for a report.
        started_at: ISO time, UTC.
        warmup: steps that are left out of the times.
        steps: how many to time after them; None for all.
        rank: which process of a launch this is.
        environment: machine and versions where they were read already.
        samples: whether stacks may be sampled; the steps meanwhile do not count.
    """

    path: Path
    name: str
    command: str
    started_at: str
    warmup: int
    steps: int | None = None
    rank: RankFacts | None = None
    environment: Environment | None = None
    samples: bool = True

    @property
    def takes_samples(self) -> bool:
        """Whether stacks are sampled: under a launcher in one rank, since all wait for it."""
        return self.samples and (self.rank is None or self.rank.rank == 0)


class Observation:
    """One observed program, from `begin` to `end`.

    Nothing that goes wrong in here ever reaches the program; it becomes a gap, and one line for
    `tell`.

    Args:
        order: what to observe.
        tell: takes a line for the user.
        enough: called between two steps, when the ordered ones have been seen; the default ends
            the observation and lets the program go on.
        listener: told about steps and marks.
        between: called between steps about twice a second, in the thread of the loop.
    """

    def __init__(
        self,
        order: Order,
        tell: Callable[[str], None],
        *,
        enough: Callable[[], None] | None = None,
        listener: Listener | None = None,
        between: Callable[[], None] | None = None,
    ) -> None:
        self._order = order
        self._owner = os.getpid()
        self._ended = False
        self._known = False
        self._between_too = between

        def make_clock(sink: Sink) -> StageClock:
            self.clock = LoopClock(
                sink,
                warmup=order.warmup,
                limit=order.steps,
                enough=enough or self._seen_enough,
                between=self._between,
                listener=listener,
            )
            return self.clock

        self.recorder = Recorder(
            order.path,
            manifest=_manifest(order),
            make_clock=make_clock,
            tell=tell,
            step_cost_ns=self._step_cost_ns,
        )
        self.hooks = Hooks(self.clock)
        self.clock.watches_collectives = order.rank is not None
        self._heartbeat = Heartbeat(self._beat, _HEARTBEAT_S)
        self._windows = SampleWindows(order.path) if order.takes_samples else None
        self._cores = CoreWatch(self.clock)
        self._anatomy: LoaderAnatomy | None = None

    @property
    def path(self) -> Path:
        """The run directory."""
        return self._order.path

    def begin(self) -> None:
        """Put the hooks in place; torch is imported.

        Raises:
            OutputError: the run directory cannot be written.
        """
        self.recorder.begin()
        self.hooks.install()
        self._look_into_loaders()
        stop_in_children(self.clock)
        when_imported(
            COMPILER,
            lambda module: watch_compilation(self.clock, module),
            lambda error: self.recorder.gap(f"compilation is not seen: {error}"),
        )
        self._heartbeat.start()
        activate(self)

    def end(self, ended: str, *, goes_on: bool = False) -> None:
        """Write what is left, and how the program ended; the hooks go away.

        Args:
            ended: in words.
            goes_on: whether the program does, unobserved: then the hooks stay and do nothing, since
                it may hold on to wrapped functions, pickle them by name, or have compiled them.
        """
        if self._ended or os.getpid() != self._owner:
            return
        self._ended = True
        activate(None)
        self._heartbeat.stop()
        self.clock.end()
        if not goes_on:
            self.hooks.uninstall()
        self._finally_learn()
        if self._anatomy is not None:
            self._anatomy.stop()
            self.hooks.gaps += self._anatomy.gaps
        self._end_windows()
        for gap in (*self.hooks.gaps, *self._unseen()):
            self.recorder.gap(gap)
        self.recorder.close(ended)

    def _look_into_loaders(self) -> None:
        try:
            self._anatomy = LoaderAnatomy(str(loader_directory(self.path).absolute()))
            self._anatomy.install(self.hooks)
            self.hooks.number_of = self._anatomy.number_of
        except Exception as error:  # a torch unlike the known ones, or no such directory
            pass_on(error)
            self.recorder.gap(f"what batches cost their producer is not recorded: {error!r}")

    def _finally_learn(self) -> None:
        try:
            self.recorder.state(core_waits=self._cores.found)
            self._learn()
        except Exception as error:  # the program has its own ending
            pass_on(error)
            self.recorder.gap(f"profkit failed at the end: {error!r}")

    def _step_cost_ns(self) -> int:
        # Two events a mark; the request for a batch and the step itself count as marks too.
        marks = self.clock.noted / 2 / max(1, self.clock.count)
        return round(marks * _calibrate_mark_ns())

    def _seen_enough(self) -> None:
        ended = f"{self._order.steps} steps were seen; the program went on unobserved"
        self.end(ended, goes_on=True)

    def _end_windows(self) -> None:
        windows = self._windows
        if windows is None:
            return
        windows.stop()
        self.recorder.probe(windows.facts(self.clock.disturbed_steps))
        if windows.gap is not None and windows.count:
            self.recorder.gap(windows.gap)

    def _between(self) -> None:
        try:
            self._cores.look()
            self._learn()
            if self._anatomy is not None:
                self._anatomy.flush()
            if self._windows is not None:
                self.clock.disturb(self._windows.tick())
            if self._between_too is not None:
                self._between_too()
        except Exception as error:  # nothing here is worth a training run
            pass_on(error)
            self.recorder.gap(f"profkit failed between two steps: {error!r}")
            self._between_too = None

    def _beat(self) -> None:
        try:
            self.clock.beat()
        except Exception as error:
            self.recorder.gap(f"profkit failed beside the loop: {error!r}")

    def _learn(self) -> None:
        """What only the running loop tells: device, threads, loader, what lies apart."""
        clock, manifest = self.clock, self.recorder.manifest
        environment = manifest.environment
        if not self._known and clock.device is not None:
            self._known = True
            on_device = clock.device != "cpu"
            environment = read_settings(environment, ask_for_devices=on_device)
        waits = manifest.core_waits
        if self._cores.steps >= 2 * (0 if waits is None else waits.steps):
            waits = self._cores.found  # not each time: the manifest is written anew
        changed = replace(
            manifest,
            core_waits=waits,
            device=clock.device,
            environment=environment,
            loader=manifest.loader or self.hooks.training_loader,
            apart=_apart(clock),
        )
        if changed != manifest:
            self.recorder.state(
                device=changed.device,
                environment=changed.environment,
                loader=changed.loader,
                apart=changed.apart,
                core_waits=changed.core_waits,
            )

    def _unseen(self) -> list[str]:
        clock = self.clock
        gaps = []
        if clock.foreign_trainings:
            gaps.append(
                "backward passes or optimizers ran in other threads than the loop's and were not "
                "observed"
            )
        if clock.foreign_requests:
            gaps.append(
                f"{clock.foreign_requests} batches were fetched in other threads: the wait for "
                "what they hand on is seen only with profkit.watch(...) around it"
            )
        if not clock.trained_steps:
            gaps.append(
                "no training step was seen in this process: training in child processes is seen "
                "under torchrun; a backward pass or an optimizer's step makes a step one"
            )
        return gaps


def stop_in_children(clock: LoopClock) -> None:
    """A forked child is another program, even if it trains."""
    global _fork_hook_set
    _observing.add(clock)
    if not _fork_hook_set and hasattr(os, "register_at_fork"):
        _fork_hook_set = True
        os.register_at_fork(after_in_child=_stop_all)


def _stop_all() -> None:
    for clock in list(_observing):
        clock.stop()


def _calibrate_mark_ns() -> float:
    """What one mark costs here and now, in ns: a wrapper around nothing, beside nothing."""
    clock = LoopClock(lambda steps, marks: None)
    hooks = Hooks(clock)
    marked = hooks.marked(_nothing, Stage.OPTIMIZER)
    clock.claim()
    clock.begin()
    began = time.perf_counter_ns()
    for _ in range(_CALIBRATION_MARKS):
        marked()
    middle = time.perf_counter_ns()
    for _ in range(_CALIBRATION_MARKS):
        _nothing()
    ended = time.perf_counter_ns()
    return max(0, 2 * middle - began - ended) / _CALIBRATION_MARKS


def _nothing() -> None:
    """What a mark is calibrated on."""


def _apart(clock: LoopClock) -> tuple[Apart, ...]:
    found = (
        Apart("evaluation", clock.evaluation_batches, clock.evaluation_ns),
        Apart("compilation", clock.compilations, clock.compiling_ns),
    )
    return tuple(one for one in found if one.count)


def _manifest(order: Order) -> RunManifest:
    return RunManifest(
        schema=SCHEMA_VERSION,
        name=order.name,
        command=order.command,
        started_at=order.started_at,
        ended=None,
        device=None,
        environment=read_environment(ask_for_devices=False)
        if order.environment is None
        else read_settings(order.environment, ask_for_devices=False),
        rank=order.rank,
        process=process_facts(),
    )
