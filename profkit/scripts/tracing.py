"""Traces a user's program: a light pass for the times, then short passes with one probe each.

Where loader workers and intra-op threads want too many cores, one more is without workers.
"""

import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import msgspec

from ..errors import InputError
from ..interruption import postponed
from ..schema.run import ProbeFacts
from ..store.names import MANIFEST
from ..store.passes import TENSORBOARD
from ..store.run_directory import read_manifest, write_manifest
from .reference_pass import REFERENCE_PASS, keep_reference, not_made, reference_options
from .script_pass import facts_path
from .start import run_command
from .target import Target, check_target
from .workplace import LIMIT_BYTES, LIMIT_FILES, copied, directory_size, moved

_PATIENCE_S = 120.0
"""How much longer than the light pass a pass may take before it is ended."""
_SLOWDOWN = 10.0
_LONGEST_WORDS = 200
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@dataclass(frozen=True, slots=True)
class ScriptOrder:
    """A program to trace.

    Attributes:
        target: the program.
        stage: what to drill down into, or `step` for all.
        probes: with which probes, each in a pass of its own.
        warmup: training steps that are left out of the times.
        steps: how many to time; the program is ended then. None: it runs to its end.
        in_place: run the passes in the working directory itself.
    """

    target: Target
    stage: str
    probes: tuple[str, ...]
    warmup: int
    steps: int | None
    in_place: bool


def trace_program(order: ScriptOrder, run: Path, say: Callable[[str], None]) -> int:
    """Run a program once for the times, then once for each probe.

    Args:
        order: what to trace.
        run: run directory to make.
        say: takes a line for the user.

    Returns:
        The exit code of the light pass.

    Raises:
        InputError: there is no such program, or it never trained.
    """
    check_target(order.target)
    run = run.absolute()
    options = ["--out", str(run), "--warmup", str(order.warmup), "--quiet"]
    if order.steps is not None:
        options += ["--steps", str(order.steps), "--stop"]
    with terminated_by_exception(), ExitStack() as stack:
        before: Path | str = "no pass is wanted"
        if order.probes:
            before = Path.cwd() if order.in_place else _copy_of(Path.cwd(), stack)
        began = time.monotonic()
        code = _run(run_command(options, order.target), None)
        limit_s = _PATIENCE_S + _SLOWDOWN * (time.monotonic() - began)
        if not (run / MANIFEST).is_file():
            raise InputError(
                f"{order.target.name} ended with exit code {code} and never imported torch: there "
                "is nothing to trace"
            )
        light = _light_facts(run)
        if light is not None and order.probes:
            facts = _run_passes(order, run, light, limit_s, before, say)
            manifest = read_manifest(run / MANIFEST)
            manifest = replace(manifest, probes=(*manifest.probes, *facts))
            write_manifest(run, manifest)
    write_manifest(run, replace(read_manifest(run / MANIFEST), asked_stage=order.stage))
    return code


def _copy_of(directory: Path, stack: ExitStack) -> Path | str:
    """What the program finds before its first pass: the others find it too; or why they cannot."""
    if directory_size(directory) is None:
        large = f"over {LIMIT_BYTES // 2**20} MiB or {LIMIT_FILES} files"
        return f"the working directory is too large to copy ({large})"
    try:
        return stack.enter_context(copied(directory))
    except OSError as error:
        return f"the working directory cannot be copied ({error.strerror or error})"


@dataclass(frozen=True, slots=True)
class _Light:
    """What the light pass tells of the others: its median active step, and more."""

    step_ns: float
    workers: int
    device: str
    needs_reference: bool


def _light_facts(run: Path) -> _Light | None:
    """None where no step was timed."""
    import numpy as np

    from ..analyze.breakdown import active_rows
    from ..analyze.compare import wants_too_many_cores
    from ..store.records import read_run

    record = read_run(run)
    rows = active_rows(record.steps)
    if not rows.size:
        return None
    loader, device = record.manifest.loader, record.manifest.device or "cpu"
    return _Light(
        step_ns=float(np.median(record.steps.step_ns[rows])),
        workers=(loader.num_workers or 0) if loader is not None else 0,
        device=device,
        # Beside a device the host's times grow where it waits for what it queued, and shrink
        # where the loop waits for its batches: they do not tell what workers do to the model.
        needs_reference=device == "cpu" and wants_too_many_cores(record.manifest),
    )


def _run_passes(
    order: ScriptOrder,
    run: Path,
    light: _Light,
    limit_s: float,
    before: Path | str,
    say: Callable[[str], None],
) -> list[ProbeFacts]:
    passes = (*([REFERENCE_PASS] if light.needs_reference else []), *order.probes)
    if isinstance(before, str):
        return _no_pass(passes, before, say)
    where = (
        "here: what it writes is written again"
        if order.in_place
        else "in a copy of this directory as it was: only what it writes elsewhere is written again"
    )
    names = ", ".join(order.probes)
    without = " and once without loader workers" if light.needs_reference else ""
    say(
        f"{order.target.name} runs again for each probe ({names}){without}, a few steps each, "
        f"{where}"
    )
    here, found = Path.cwd(), []
    for name in passes:
        say(f"{name} pass")
        try:
            with ExitStack() as stack:
                if name == REFERENCE_PASS:
                    scratch = stack.enter_context(_scratch(run))
                    options = reference_options(scratch, light.step_ns, order.warmup)
                    read = partial(keep_reference, scratch, run)
                else:
                    options = ["--probe", name, "--into", str(run), "--step-ns", str(light.step_ns)]
                    options += ["--workers", str(light.workers), "--device", light.device]
                    options += ["--tensorboard", str(run.parent / TENSORBOARD / run.name)]
                    read = partial(_read_facts, run, name)
                place = stack.enter_context(nullcontext(here) if order.in_place else copied(before))
                target = order.target
                if target.kind == "script":
                    target = replace(target, name=moved(target.name, here, place))
                command = run_command(options, target)
                found.append(_one_pass(name, command, place, run, limit_s, read))
        except OSError as error:  # no room for a copy, say: the others may be smaller
            found.append(_nothing_seen(name, f"the pass failed: {error.strerror or error}"))
    return found


@contextmanager
def _scratch(run: Path) -> Iterator[Path]:
    """A directory below a run's that goes away again."""
    passes = run / "passes"
    passes.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=passes, ignore_cleanup_errors=True) as name:
        yield Path(name)


def _no_pass(passes: Sequence[str], reason: str, say: Callable[[str], None]) -> list[ProbeFacts]:
    gap = (
        f"{reason}, and the program would write its outputs again: pass --in-place to run the "
        "passes there all the same"
    )
    say(gap)
    return [_nothing_seen(name, gap) for name in passes]


def _nothing_seen(name: str, reason: str) -> ProbeFacts:
    if name == REFERENCE_PASS:
        return not_made(reason)
    return ProbeFacts(name=name, steps=0, gap=f"{name} probe: {reason}")


def _one_pass(
    name: str,
    command: Sequence[str],
    place: Path,
    run: Path,
    limit_s: float,
    read: Callable[[], ProbeFacts | None],
) -> ProbeFacts:
    """What a pass saw; `read` gives None where it left nothing."""
    log = facts_path(run, name).with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter_ns()
    with log.open("wb") as output:
        code = _run(
            command, limit_s, cwd=place, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    wall_ns = time.perf_counter_ns() - began
    if (facts := read()) is not None:
        return replace(facts, wall_ns=facts.wall_ns or wall_ns)
    said = log.read_text("utf-8", "replace").strip().splitlines()
    words = said[-1].replace(f"{place}/", "")[:_LONGEST_WORDS] if said else "it said nothing"
    return _nothing_seen(name, f"the pass ended with {code}: {words}")


def _read_facts(run: Path, probe: str) -> ProbeFacts | None:
    try:
        return msgspec.json.decode(facts_path(run, probe).read_bytes(), type=ProbeFacts)
    except (OSError, msgspec.DecodeError):
        return None


@contextmanager
def terminated_by_exception() -> Iterator[None]:
    """Have signals end this process by way of an exception: neither child nor copy stays behind.

    SIGTERM, and SIGHUP (the terminal was closed) unless it is ignored, as under nohup.
    """

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, leave)
        for number in _ENDING
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(command: Sequence[str], limit_s: float | None, **options: Any) -> int:
    """The exit code; a Ctrl-C reaches the child by itself, and is then ours too.

    Args:
        command: to start.
        limit_s: after which it is ended; None: it takes its time.
        options: of `subprocess.Popen`.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        with postponed():
            process = subprocess.Popen(command, **options)
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        assert process is not None  # who starts none does not wait
        return _end(process)
    except KeyboardInterrupt:
        if process is not None:
            try:
                # The program may have things to save. Another Ctrl-C ends that.
                process.wait(_PATIENCE_S)
            finally:
                process.kill()
                process.wait()
        raise
    except SystemExit:
        if process is not None:
            _end(process)
        raise


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    try:
        return process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
