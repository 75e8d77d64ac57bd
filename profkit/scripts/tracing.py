"""Traces a user's program: a light pass for the times, then short passes with one probe each."""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ..errors import InputError
from ..schema.run import ProbeFacts
from ..store.names import MANIFEST
from ..store.passes import TENSORBOARD
from ..store.run_directory import read_manifest, write_manifest
from .script_pass import facts_path
from .target import Target, check_target
from .workplace import LIMIT_BYTES, copied, directory_size, moved

_PATIENCE_S = 120.0
"""How much longer than the light pass a pass may take before it is ended."""
_SLOWDOWN = 10.0
_LONGEST_WORDS = 200


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
    began = time.monotonic()
    options = ["--out", str(run), "--warmup", str(order.warmup), "--quiet"]
    if order.steps is not None:
        options += ["--steps", str(order.steps), "--stop"]
    code = _wait(subprocess.Popen(_command(options, order.target)), None)
    light_s = time.monotonic() - began
    if not (run / MANIFEST).is_file():
        raise InputError(
            f"{order.target.name} ended with exit code {code} and never imported torch: there is "
            "nothing to trace"
        )
    step_ns, workers = _light_facts(run)
    if step_ns is not None and order.probes:
        facts = _run_passes(order, run, step_ns, workers, _PATIENCE_S + _SLOWDOWN * light_s, say)
        manifest = read_manifest(run / MANIFEST)
        manifest = replace(manifest, probes=(*manifest.probes, *facts))
        write_manifest(run, manifest)
    write_manifest(run, replace(read_manifest(run / MANIFEST), asked_stage=order.stage))
    return code


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
    say: Callable[[str], None],
) -> list[ProbeFacts]:
    here = Path.cwd()
    names = ", ".join(order.probes)
    again = f"{order.target.name} runs again for each probe ({names}), a few steps each"
    if order.in_place:
        say(f"{again}, here: what it writes is written again")
    else:
        size = directory_size(here)
        if size is None:
            gap = (
                f"the working directory is too large to copy (over {LIMIT_BYTES // 2**20} MiB or "
                "thousands of files), and the program would write its outputs again: pass "
                "--in-place to run the passes there all the same"
            )
            say(gap)
            return [
                ProbeFacts(name=probe, steps=0, gap=f"{probe} probe: {gap}")
                for probe in order.probes
            ]
        say(f"{again}, in a copy of this directory: only what it writes elsewhere is written again")
    device = read_manifest(run / MANIFEST).device or "cpu"
    with nullcontext(here) if order.in_place else copied(here) as place:
        target = replace(order.target, name=moved(order.target.name, here, place))
        found = []
        for probe in order.probes:
            options = ["--probe", probe, "--into", str(run), "--step-ns", str(step_ns)]
            options += ["--workers", str(workers), "--device", device]
            options += ["--tensorboard", str(run.parent / TENSORBOARD / run.name)]
            say(f"{probe} pass")
            found.append(_one_pass(probe, _command(options, target), place, run, limit_s))
    return found


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
        words = said[-1][:_LONGEST_WORDS] if said else "it said nothing"
        return ProbeFacts(
            name=probe, steps=0, gap=f"{probe} probe: the pass ended with {code}: {words}"
        )


def _command(options: Sequence[str], target: Target) -> list[str]:
    kind = ["-m"] if target.kind == "module" else []
    start = [sys.executable, "-m", "profkit", "run"]
    return [*start, *options, *kind, "--", target.name, *target.arguments]


def _wait(process: "subprocess.Popen[bytes]", limit_s: float | None) -> int:
    """The exit code; a Ctrl-C reaches the child by itself, and is then ours too."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.terminate()
    except KeyboardInterrupt:
        try:
            process.wait(_PATIENCE_S)
        finally:
            process.kill()
        raise
    try:
        return process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
