"""Traces a user's program: a light pass for the times, then short passes with one probe each."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from ..errors import InputError
from ..schema.run import ProbeFacts
from ..store.names import MANIFEST
from ..store.passes import TENSORBOARD
from ..store.run_directory import read_manifest, write_manifest
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
        code = _wait(subprocess.Popen(run_command(options, order.target)), None)
        limit_s = _PATIENCE_S + _SLOWDOWN * (time.monotonic() - began)
        if not (run / MANIFEST).is_file():
            raise InputError(
                f"{order.target.name} ended with exit code {code} and never imported torch: there "
                "is nothing to trace"
            )
        step_ns, workers = _light_facts(run)
        if step_ns is not None and order.probes:
            facts = _run_passes(order, run, step_ns, workers, limit_s, before, say)
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


def _light_facts(run: Path) -> tuple[float | None, int]:
    """Median active step, and loader workers."""
    import numpy as np

    from ..analyze.breakdown import active_rows
    from ..store.records import read_run

    record = read_run(run)
    rows = active_rows(record.steps)
    loader = record.manifest.loader
    workers = (loader.num_workers or 0) if loader is not None else 0
    return (float(np.median(record.steps.step_ns[rows])) if rows.size else None), workers


def _run_passes(
    order: ScriptOrder,
    run: Path,
    step_ns: float,
    workers: int,
    limit_s: float,
    before: Path | str,
    say: Callable[[str], None],
) -> list[ProbeFacts]:
    if isinstance(before, str):
        return _no_pass(order, before, say)
    where = (
        "here: what it writes is written again"
        if order.in_place
        else "in a copy of this directory as it was: only what it writes elsewhere is written again"
    )
    names = ", ".join(order.probes)
    say(f"{order.target.name} runs again for each probe ({names}), a few steps each, {where}")
    device = read_manifest(run / MANIFEST).device or "cpu"
    here, found = Path.cwd(), []
    for probe in order.probes:
        options = ["--probe", probe, "--into", str(run), "--step-ns", str(step_ns)]
        options += ["--workers", str(workers), "--device", device]
        options += ["--tensorboard", str(run.parent / TENSORBOARD / run.name)]
        say(f"{probe} pass")
        with nullcontext(here) if order.in_place else copied(before) as place:
            target = order.target
            if target.kind == "script":
                target = replace(target, name=moved(target.name, here, place))
            found.append(_one_pass(probe, run_command(options, target), place, run, limit_s))
    return found


def _no_pass(order: ScriptOrder, reason: str, say: Callable[[str], None]) -> list[ProbeFacts]:
    gap = (
        f"{reason}, and the program would write its outputs again: pass --in-place to run the "
        "passes there all the same"
    )
    say(gap)
    return [ProbeFacts(name=probe, steps=0, gap=f"{probe} probe: {gap}") for probe in order.probes]


def _one_pass(
    probe: str, command: Sequence[str], place: Path, run: Path, limit_s: float
) -> ProbeFacts:
    facts = facts_path(run, probe)
    facts.parent.mkdir(parents=True, exist_ok=True)
    log = facts.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=place, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        code = _wait(process, limit_s)
    try:
        return msgspec.json.decode(facts.read_bytes(), type=ProbeFacts)
    except (OSError, msgspec.DecodeError):
        said = log.read_text("utf-8", "replace").strip().splitlines()
        words = said[-1].replace(f"{place}/", "")[:_LONGEST_WORDS] if said else "it said nothing"
        return ProbeFacts(
            name=probe, steps=0, gap=f"{probe} probe: the pass ended with {code}: {words}"
        )


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


def _wait(process: "subprocess.Popen[bytes]", limit_s: float | None) -> int:
    """The exit code; a Ctrl-C reaches the child by itself, and is then ours too."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return _end(process)
    except KeyboardInterrupt:
        try:
            # The program may have things to save. Another Ctrl-C ends that.
            process.wait(_PATIENCE_S)
        finally:
            process.kill()
            process.wait()
        raise
    except SystemExit:
        _end(process)
        raise


def _end(process: "subprocess.Popen[bytes]") -> int:
    process.terminate()
    try:
        return process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
