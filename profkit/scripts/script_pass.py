"""A traced pass over a user's program: it runs again, and ends once a probe has seen enough.

Times never come from here: every probe slows down what it looks at.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from ..errors import ProbeError, ProfkitError
from ..probe import pass_sizes
from ..probe.import_watch import when_imported
from ..schema.run import ProbeFacts
from ..schema.stage import Stage
from ..store.names import PASS_FACTS
from ..store.passes import LINES, STACKS, TORCH
from ..store.run_directory import write_file
from .as_main import run_as_main
from .ending import Ending
from .running import StopProgram
from .target import Target, check_target

if TYPE_CHECKING:
    from ..probe.hooks import Hooks
    from ..probe.loop_clock import LoopClock
    from ..probe.torch_trace import TorchPass
    from ..schema.steps import StepTable

_PREFETCH = 2
"""What torch takes for `prefetch_factor` unless told otherwise."""


@dataclass(frozen=True, slots=True)
class PassOrder:
    """A pass over a program.

    Attributes:
        target: the program.
        probe: `torch`, `stacks` or `lines`.
        run: run directory of the light pass; the probe's files go below it.
        tensorboard: folder for the trace that TensorBoard shows.
        device: what the model ran on in the light pass.
        step_ns: median step of the light pass.
        workers: loader workers.
    """

    target: Target
    probe: str
    run: Path
    tensorboard: Path
    device: str
    step_ns: float
    workers: int

    @property
    def warmup(self) -> int:
        """Training steps before the probe looks."""
        return pass_sizes.warmup_steps(self.workers, _PREFETCH)


def run_pass(order: PassOrder) -> NoReturn:
    """Run a program until a probe has seen enough; what it cost goes to a file beside the probe's.

    Raises:
        InputError: there is no such program.
    """
    check_target(order.target)
    began = time.perf_counter_ns()
    work = _Pass(order)

    def finish(ending: Ending) -> None:
        facts = replace(work.end(ending), wall_ns=time.perf_counter_ns() - began)
        write_file(facts_path(order.run, order.probe), msgspec.json.encode(facts))

    def fail(error: Exception) -> None:
        work.gap = f"{order.probe} probe: {error}"

    when_imported("torch", lambda _: work.begin(), fail)
    run_as_main(order.target, at_end=finish)


def facts_path(run: Path, probe: str) -> Path:
    """Where a pass says what it saw and cost."""
    return run / "passes" / f"{probe}-{PASS_FACTS}"


class _Pass:
    """One probe around some steps of a program that is hooked."""

    def __init__(self, order: PassOrder) -> None:
        self.gap: str | None = None
        self._order = order
        self._hooks: Hooks
        self._clock: LoopClock
        self._traced: TorchPass | None = None
        self._probe: AbstractContextManager[object] | None = None
        self._tables: list[StepTable] = []
        self._steps = {
            "torch": 0,
            "stacks": pass_sizes.sampled_steps(order.step_ns),
            "lines": pass_sizes.timed_line_steps(order.step_ns),
        }[order.probe]
        self._models: list[Any] = []
        self._loaders: list[Any] = []

    def begin(self) -> None:
        """Torch is there: put the hooks in place, and the probe where it looks at all steps."""
        from ..probe.hooks import Hooks
        from ..probe.loop_clock import LoopClock
        from ..probe.torch_trace import TorchPass

        order = self._order
        if order.probe == "torch":
            steps = pass_sizes.traced_steps(order.step_ns, order.workers)

            def make_clock(sink: Any, capacity: int, listener: Any) -> LoopClock:
                self._clock = LoopClock(
                    sink, capacity=capacity, listener=listener, between=self._stop_when_traced
                )
                return self._clock

            self._traced = TorchPass(
                order.run / TORCH,
                device=order.device,
                warmup=order.warmup,
                steps=steps,
                make_clock=make_clock,
            )
            self._traced.__enter__()
        else:
            self._clock = LoopClock(
                lambda steps, marks: self._tables.append(steps),
                capacity=1,
                between=self._advance,
            )
        self._hooks = Hooks(self._clock)
        if order.probe == "lines":
            (order.run / LINES).mkdir(parents=True, exist_ok=True)
            self._hooks.on_loader = self._meet_loader
            self._hooks.on_module = self._models.append
        self._hooks.install()

    def end(self, ending: Ending) -> ProbeFacts:
        """Finish, whether the probe stopped the program or it ended by itself."""
        probe = self._order.probe
        try:
            if self.gap is None:
                return self._finished(ending)
        except Exception as error:
            words = error if isinstance(error, ProfkitError) else f"{type(error).__name__}: {error}"
            self.gap = f"{probe} probe: {words}"
        return ProbeFacts(name=probe, steps=0, gap=self.gap)

    def _finished(self, ending: Ending) -> ProbeFacts:
        import numpy as np

        if not hasattr(self, "_clock"):
            raise ProbeError("the program ended without importing torch")
        self._clock.stop()
        probe, detail = self._order.probe, None
        if self._traced is not None:
            table, detail = self._end_trace(self._traced)
        else:
            table = self._end_probe(ending)
            detail = f"{pass_sizes.SAMPLE_HZ} samples a second" if probe == "stacks" else None
        return ProbeFacts(
            name=probe, steps=len(table), step_ns=int(np.median(table.step_ns)), detail=detail
        )

    def _end_trace(self, traced: "TorchPass") -> "tuple[StepTable, str | None]":
        from ..store.chrome_trace import TENSORBOARD_SUFFIX, slim_for_tensorboard
        from ..store.streams import RunWriter

        order = self._order
        traced.__exit__(None, None, None)
        writer = RunWriter(order.run / TORCH)
        writer.append(traced.table)
        writer.close()
        slim = order.tensorboard / f"{order.run.name}{TENSORBOARD_SUFFIX}"
        slim_for_tensorboard(traced.trace_path, slim)
        return traced.table, traced.gap

    def _end_probe(self, ending: Ending) -> "StepTable":
        from ..schema.steps import Flag, StepTable

        if self._probe is not None:
            probe, self._probe = self._probe, None
            probe.__exit__(None, None, None)
        seen = StepTable.concatenate(self._tables)
        seen = seen.select((seen.flags & Flag.EVALUATION.value) == 0)
        table = seen.select(slice_from(self._order.warmup, len(seen)))
        if not len(table):
            raise ProbeError(
                f"the program made {len(seen)} training steps ({ending.words}), "
                f"{self._order.warmup} of them to warm up: nothing was seen"
            )
        return table

    def _stop_when_traced(self) -> None:
        if self._traced is not None and self._traced.done:
            self._clock.stop()
            raise StopProgram(0)

    def _advance(self) -> None:
        """Between two steps: begin to look, or stop."""
        done = self._clock.trained_steps - self._order.warmup
        if done < 0:
            return
        if self._probe is None:
            self._start()
        elif done >= self._steps:
            self._clock.stop()
            raise StopProgram(0)

    def _start(self) -> None:
        from ..probe.line_times import time_lines
        from ..probe.stack_samples import sample_stacks

        run = self._order.run
        if self._order.probe == "stacks":
            out = run / STACKS
            out.parent.mkdir(parents=True, exist_ok=True)
            probe: AbstractContextManager[object] = sample_stacks(out, pass_sizes.SAMPLE_HZ)
        else:
            probe = time_lines(self._targets(), run / LINES / "lines-main.json")
        try:
            probe.__enter__()
        except ProbeError as error:
            self.gap = f"{self._order.probe} probe: {error}"
            self._clock.stop()
            raise StopProgram(0) from None
        self._probe = probe

    def _targets(self) -> dict[Stage, list[Callable[..., Any]]]:
        from ..probe.line_targets import loader_functions, module_functions, optimizer_functions

        found: dict[Stage, list[Callable[..., Any]]] = {stage: [] for stage in Stage}
        for loader in self._loaders:
            found[Stage.DATALOADER] += loader_functions(loader.dataset, loader.collate_fn)
        found[Stage.FORWARD] += module_functions(*self._models)
        for known in self._hooks.optimizers.values():
            if (optimizer := known()) is not None:
                found[Stage.OPTIMIZER] += optimizer_functions(optimizer)
        return found

    def _meet_loader(self, loader: Any) -> None:
        from ..probe.line_times import worker_line_timer

        if any(loader is known for known in self._loaders):
            return
        self._loaders.append(loader)
        if loader.num_workers:
            loader.worker_init_fn = worker_line_timer(
                self._order.run / LINES,
                collate_fn=loader.collate_fn,
                worker_init_fn=loader.worker_init_fn,
            )


def slice_from(start: int, length: int) -> Any:
    """Rows from one on, as an index."""
    import numpy as np

    return np.arange(min(start, length), length)
