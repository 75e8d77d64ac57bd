"""The traced passes of a program: where a stage's time goes. Each probe has its own pass.

Times never come from here: every probe slows down what it looks at.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import ProfkitError
from ..probe.line_targets import loader_functions, module_functions, optimizer_functions
from ..probe.line_times import time_lines, worker_line_timer
from ..probe.marks import StageClock
from ..probe.pass_sizes import (
    SAMPLE_HZ,
    sampled_steps,
    timed_line_steps,
    traced_steps,
    warmup_steps,
)
from ..probe.stack_samples import Attempt, sample_stacks
from ..probe.torch_trace import TorchPass
from ..schema.run import ProbeFacts
from ..schema.stage import Stage
from ..schema.steps import StepTable
from ..store.chrome_trace import TENSORBOARD_SUFFIX, slim_for_tensorboard
from ..store.passes import LINES, STACKS, TORCH
from ..store.streams import RunWriter
from .program import Program, Source, copy_batch
from .sources import PREFETCH

MakeSource = Callable[[Callable[[int], None] | None], Source]
"""Makes a program's source anew, its loader workers with the given `worker_init_fn`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What a pass works on; see `run_pass`."""

    program: Program
    make_source: MakeSource
    run: Path
    tensorboard: Path
    step_ns: float
    workers: int

    @property
    def warmup(self) -> int:
        """Steps until loader workers no longer live on a lead won before."""
        return warmup_steps(self.workers, PREFETCH)


def run_pass(
    probe: str,
    program: Program,
    make_source: MakeSource,
    run: Path,
    tensorboard: Path,
    step_ns: float,
    workers: int = 0,
) -> ProbeFacts:
    """Let one probe look at some steps of a program.

    Args:
        probe: `torch`, `stacks` or `lines`.
        program: goes on training, from a source of its own.
        make_source: gives that source.
        run: run directory; the probe's files go below it.
        tensorboard: folder for the trace that TensorBoard shows.
        step_ns: what a step takes without a probe; says how many steps make sense.
        workers: loader workers of the source.

    Returns:
        What the probe saw and cost; a probe that cannot work here gives a gap.
    """
    began = time.perf_counter_ns()
    task = _Task(program, make_source, run, tensorboard, step_ns, workers)
    try:
        facts = _PASSES[probe](task)
    except Exception as error:  # whatever a probe does, the times are measured and stay
        what = str(error) if isinstance(error, ProfkitError) else f"{type(error).__name__}: {error}"
        facts = ProbeFacts(name=probe, steps=0, gap=f"{probe} probe: {what}")
    finally:
        program.stop_feeding()
    return replace(facts, wall_ns=time.perf_counter_ns() - began)


def _pass_torch(task: _Task) -> ProbeFacts:
    steps = traced_steps(task.step_ns, task.workers)
    program, run = task.program, task.run
    program.feed_from(task.make_source(None))
    traced = TorchPass(run / TORCH, device=program.device, warmup=task.warmup, steps=steps)
    with traced:
        while not traced.done:
            program.run(traced.clock, task.warmup + steps + 1)
    writer = RunWriter(run / TORCH)
    writer.append(traced.table)
    writer.close()
    slim_for_tensorboard(traced.trace_path, task.tensorboard / f"{run.name}{TENSORBOARD_SUFFIX}")
    return ProbeFacts(
        name="torch",
        steps=len(traced.table),
        step_ns=int(np.median(traced.table.step_ns)),
        detail=traced.gap,
    )


def _pass_stacks(task: _Task) -> ProbeFacts:
    out = task.run / STACKS
    out.parent.mkdir(parents=True, exist_ok=True)
    steps = sampled_steps(task.step_ns)
    task.program.feed_from(task.make_source(None))
    detail = f"{SAMPLE_HZ} samples a second"
    return _observe("stacks", task, sample_stacks(out, SAMPLE_HZ), steps, detail)


def _pass_lines(task: _Task) -> ProbeFacts:
    out = task.run / LINES
    out.mkdir(parents=True, exist_ok=True)
    steps = timed_line_steps(task.step_ns)
    program = task.program
    program.feed_from(task.make_source(worker_line_timer(out)))
    targets = {
        Stage.DATALOADER: loader_functions(getattr(program.source, "dataset", program.source)),
        Stage.TRANSFER: (copy_batch,),
        Stage.FORWARD: module_functions(program.model, program.loss),
        Stage.OPTIMIZER: optimizer_functions(program.optimizer),
    }
    return _observe("lines", task, time_lines(targets, out / "lines-main.json"), steps, None)


_PASSES = {"torch": _pass_torch, "stacks": _pass_stacks, "lines": _pass_lines}


def _observe(
    name: str, task: _Task, probe: AbstractContextManager[object], steps: int, detail: str | None
) -> ProbeFacts:
    gathered: list[StepTable] = []
    clock = StageClock(lambda steps, marks: gathered.append(steps))
    program = task.program
    if task.workers:
        program.begin_epoch()  # loader workers start unobserved
    attempt = Attempt(probe)
    with attempt:
        # Without workers the source starts in here: a generator that runs already when its
        # lines are to be timed is not seen.
        while attempt.gap is None and clock.count < steps:
            program.run(clock, steps - clock.count)
        # Workers write what they saw when they end, which is now.
        program.stop_feeding()
    clock.flush()
    if attempt.gap is not None:
        return ProbeFacts(name=name, steps=0, gap=f"{name} probe: {attempt.gap}")
    table = StepTable.concatenate(gathered)
    return ProbeFacts(
        name=name, steps=len(table), step_ns=int(np.median(table.step_ns)), detail=detail
    )
