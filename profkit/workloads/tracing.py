"""Runs a trace order: the sources take turns for the times, then the probes drill down."""

import secrets
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..analyze.breakdown import active_rows
from ..errors import InputError
from ..probe.marks import StageClock
from ..recorder import Recorder, new_manifest
from ..schema.run import DataFacts, LoaderFacts
from ..schema.steps import MarkTable, StepTable
from ..store.names import REFERENCE
from ..store.passes import TENSORBOARD
from ..store.records import read_run
from ..store.streams import RunWriter
from .loader_look import look_into_loaders
from .mnist import MNIST, open_dataset
from .mnist_files import DataFiles, locate
from .models import WORKLOADS, Workload
from .order import DATALOADER, MEMORY, PROBES, TraceOrder
from .passes import run_pass
from .program import Program, Source
from .sources import PREFETCH, MemorySource, dataloader_source
from .turns import Variant, take_turns

_BLOCK_STEPS = 10
_LEAST_BLOCKS = 8
_TIMING_SHARE = 0.5
"""Of the progress bar; the passes share the rest."""

Show = Callable[[str, float], None]
"""Told what happens now, and the part of the whole that is done, 0 to 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """An order with everything looked up, before anything is written."""

    order: TraceOrder
    workload: Workload
    files: DataFiles
    dataset: MNIST
    device: str
    batch_size: int

    def make_source(
        self, name: str, workers: int, worker_init_fn: Callable[[int], None] | None = None
    ) -> Source:
        """A source of that name, at its first epoch."""
        seed = self.order.seed
        if name != DATALOADER:
            return MemorySource(self.dataset, self.batch_size, seed, self.device)
        return dataloader_source(
            self.dataset,
            self.batch_size,
            workers,
            seed,
            pin_memory=self.device == "cuda",
            worker_init_fn=worker_init_fn,
        )


def look_up(order: TraceOrder, show: Show) -> Setting:
    """What an order needs: its workload, its device and its data.

    Raises:
        InputError: no such workload, source, probe or device.
        DataError: the data directory is not what it should be.
    """
    for what, given, known in (
        ("workload", (order.workload,), tuple(WORKLOADS)),
        ("source", order.sources, (DATALOADER, MEMORY)),
        ("probe", order.probes, PROBES),
    ):
        for name in given:
            if name not in known:
                raise InputError(f"unknown {what} {name!r}: use one of {', '.join(known)}")
    device = order.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise InputError("no CUDA device here: use --device cpu, or see profkit doctor")
    workload = WORKLOADS[order.workload]
    files = locate(
        order.data_dir,
        allow_download=order.allow_download,
        announce=lambda what: show(what, 0.0),
    )
    dataset = open_dataset(files, train=True)
    batch_size = order.batch_size or workload.batch_size
    batches, ahead = -(-len(dataset) // batch_size), order.num_workers * PREFETCH
    if order.num_workers and batches <= ahead + order.num_workers:
        raise InputError(
            f"an epoch of {batches} batches is over before {order.num_workers} workers, {ahead} "
            "batches ahead, are in their stride: use fewer workers or a smaller --batch-size"
        )
    return Setting(
        order=order,
        workload=workload,
        files=files,
        dataset=dataset,
        device=device,
        batch_size=batch_size,
    )


def run_order(setting: Setting, directory: Path, show: Show) -> None:
    """Carry out an order; leaves one run directory per source in `directory`.

    Args:
        setting: the order, looked up.
        directory: existing and empty.
        show: told about the progress.

    Raises:
        OutputError: `directory` cannot be written.
    """
    threads_before = torch.get_num_threads()
    if setting.order.threads is not None:
        torch.set_num_threads(setting.order.threads)
    try:
        _run(setting, directory, show)
    finally:
        torch.set_num_threads(threads_before)


def _run(setting: Setting, directory: Path, show: Show) -> None:
    order = setting.order
    group = secrets.token_hex(8)
    with ExitStack() as stack:
        recorders = {
            name: stack.enter_context(_recorder(setting, name, directory / name, group))
            for name in order.sources
        }
        programs = {name: _program(setting, name, order.num_workers) for name in order.sources}
        variants = [
            Variant(programs[name], recorders[name].clock, *_ahead(order, name))
            for name in order.sources
        ]
        if DATALOADER in order.sources and order.num_workers:
            variants.append(_reference(setting, recorders[DATALOADER], stack))
        look = None
        if DATALOADER in order.sources:
            look = stack.enter_context(look_into_loaders(recorders[DATALOADER]))

        def advance(active: int) -> None:
            if look is not None:
                look.flush()
            done = min(active, order.steps)
            show(f"timing {done} of {order.steps} steps", _TIMING_SHARE * done / order.steps)

        block = max(1, min(_BLOCK_STEPS, order.steps // _LEAST_BLOCKS))
        if setting.device == "cuda":
            block = max(2, block)  # the last step of each waits for the device
        advance(0)
        take_turns(variants, steps=order.steps, block_steps=block, seed=order.seed, advance=advance)
        if look is not None:
            look.end(programs[DATALOADER].source)
        _drill_down(setting, recorders, programs, directory, show)


def _drill_down(
    setting: Setting,
    recorders: dict[str, Recorder],
    programs: dict[str, Program],
    directory: Path,
    show: Show,
) -> None:
    order = setting.order
    passes = [(name, probe) for name in order.sources for probe in order.probes]
    for index, (name, probe) in enumerate(passes):
        show(
            f"{name}: {probe} pass",
            _TIMING_SHARE + (1 - _TIMING_SHARE) * index / len(passes),
        )
        program, run = programs[name], recorders[name].path

        def renew(worker_init_fn: Callable[[int], None] | None, name: str = name) -> Source:
            return setting.make_source(name, order.num_workers, worker_init_fn)

        facts = run_pass(
            probe,
            program,
            renew,
            run,
            directory / TENSORBOARD / name,
            _median_step_ns(run),
            order.num_workers if name == DATALOADER else 0,
        )
        recorders[name].probe(facts)


def _recorder(setting: Setting, name: str, path: Path, group: str) -> Recorder:
    order, files = setting.order, setting.files
    workers = order.num_workers if name == DATALOADER else None
    manifest = replace(
        new_manifest(name),
        device=setting.device,
        workload=order.workload,
        asked_stage=order.stage,
        group=group,
        data=DataFacts(files.name, files.origin, files.train_samples, files.test_samples),
        loader=LoaderFacts(
            source=name,
            batch_size=setting.batch_size,
            num_workers=workers,
            prefetch_factor=PREFETCH if workers else None,
        ),
        gaps=files.notes,
    )
    return Recorder(path, manifest=manifest)


def _program(setting: Setting, name: str, workers: int) -> Program:
    source = setting.make_source(name, workers)
    return Program(setting.workload, source, setting.device, setting.order.seed)


def _ahead(order: TraceOrder, name: str) -> tuple[int, int]:
    """Loader workers, and how many batches each makes ahead."""
    return (order.num_workers, PREFETCH) if name == DATALOADER else (0, 0)


def _reference(setting: Setting, recorder: Recorder, stack: ExitStack) -> Variant:
    """The same loop without loader workers: what tells contention from slow loading."""
    writer = RunWriter(recorder.path)
    stack.callback(writer.close)

    def keep(steps: StepTable, marks: MarkTable) -> None:
        try:
            writer.append(steps, name=REFERENCE)
        except OSError as error:
            recorder.gap(f"the reference without workers could not be written: {error}")

    return Variant(_program(setting, DATALOADER, 0), StageClock(keep))


def _median_step_ns(run: Path) -> float:
    steps = read_run(run).steps
    taken = steps.step_ns[active_rows(steps)].tolist()
    return statistics.median(taken) if taken else 0.0
