"""Tunes a program into a directory: what was measured stays there, so that a killed one goes on."""

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from .errors import OutputError, RunError
from .probe.environment import read_environment
from .render.tuning import render_tuning_json, render_tuning_markdown
from .schema.tuning import TUNE_SCHEMA, Trial, TuneFindings
from .scripts.target import Target
from .store.run_directory import write_file
from .verify.places import own_files
from .verify.tune import TuneOrder, tune

MOST_SOURCES = 2_000
LARGEST_BYTES = 1 << 18
"""Of a file that is taken for source or settings."""
_SOURCES = frozenset({".py", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini"})
_SETTINGS = (
    "OMP_",
    "MKL_",
    "KMP_",
    "OPENBLAS_",
    "MALLOC_",
    "TORCH",
    "PYTORCH_",
    "CUDA_",
    "NVIDIA_",
)
"""How the names of environment variables begin on which a time depends."""
_GPUS = Path("/proc/driver/nvidia/gpus")
TRIALS = "trials.jsonl"
"""Each trial as soon as it was measured."""
RESULTS = ("tune.md", "tune.json")


def tune_directory(target: Target) -> Path:
    """Where a tuning is written unless something else is asked for."""
    return Path("runs", f"tune-{target.stem}")


def kept_trials(target: Target, out: Path) -> int:
    """How many trials of an unfinished tuning of the program a directory holds."""
    return len(_read(out / TRIALS, _mark(target)))


def tune_into(
    target: Target,
    budget_s: float,
    out: Path,
    *,
    force: bool,
    show: Callable[[str, float], None],
) -> TuneFindings:
    """Tune a program; goes on where an earlier one into the same directory was killed.

    Raises:
        InputError: there is no such program, it never trained, or the budget is too small.
        OutputError: `out` holds a finished result, or cannot be written.
    """
    for name in RESULTS:
        if (out / name).exists() and not force:
            raise OutputError(f"{out / name} is there already: choose another --out, or --force")
    path = out / TRIALS
    mark = _mark(target)
    tried = {} if force else _read(path, mark)
    out.mkdir(parents=True, exist_ok=True)
    lines = [msgspec.json.encode({"mark": mark}), *(msgspec.json.encode(t) for t in tried.values())]
    write_file(path, b"\n".join(lines) + b"\n")

    def keep(trial: Trial) -> None:
        with path.open("ab") as file:
            file.write(msgspec.json.encode(trial) + b"\n")

    found = tune(TuneOrder(target, budget_s, tried), show, keep)
    write_file(out / RESULTS[0], render_tuning_markdown(found).encode())
    write_file(out / RESULTS[1], render_tuning_json(found).encode())
    path.unlink()
    return found


def _mark(target: Target) -> str:
    """Tells one program from another, and from itself after a change or on another machine."""
    named = TUNE_SCHEMA, target.kind, os.path.abspath(target.name), target.arguments
    found = hashlib.sha256(repr((named, _surroundings())).encode())
    for path in _sources(target):
        with suppress(OSError):  # gone meanwhile, or not ours
            content = path.read_bytes()
            found.update(repr((str(path), len(content))).encode())
            found.update(content)
    return found.hexdigest()[:16]


def _surroundings() -> list[object]:
    """What a time depends on beside the program."""
    known = read_environment(ask_for_devices=False)
    # A frequency may be the one of this moment.
    hardware = replace(known.hardware, frequency_mhz=None)
    settings = {name: text for name, text in os.environ.items() if name.startswith(_SETTINGS)}
    return [hardware, sorted(known.versions.items()), sorted(settings.items()), _gpus()]


def _gpus() -> list[str]:
    """Models of the GPUs, as their driver names them: nothing is started to ask."""
    found = []
    for facts in sorted(_GPUS.glob("*/information")):
        with suppress(OSError):
            lines = facts.read_text(errors="replace").splitlines()
            found += [line for line in lines if line.startswith("Model:")]
    return found


def _sources(target: Target) -> list[Path]:
    """The program, the modules that lie beside it, and all that its copies hold of that kind."""
    place = Path(target.name) if target.kind == "script" else Path()
    place = place if place.is_dir() else place.parent
    beside = sorted(place.glob("*.py")) + sorted(place.glob("*/*.py"))
    script = [Path(target.name)] if target.kind == "script" else []
    held = [path for path in own_files(Path.cwd()) if path.suffix in _SOURCES and _is_small(path)]
    named = (path.absolute() for path in (*script, *beside[:MOST_SOURCES], *held[:MOST_SOURCES]))
    return [path for path in dict.fromkeys(named) if path.is_file()]


def _is_small(path: Path) -> bool:
    try:
        return path.stat().st_size <= LARGEST_BYTES
    except OSError:
        return False


def _read(path: Path, mark: str) -> dict[str, Trial]:
    """The trials that a killed tuning of the same program has left, and that need no other."""
    if not path.is_file():
        return {}
    first, *lines = path.read_bytes().split(b"\n")[:-1] or [b"{}"]
    try:
        if msgspec.json.decode(first).get("mark") != mark:
            return {}
        trials = [msgspec.json.decode(line, type=Trial) for line in lines if line]
    except (msgspec.DecodeError, msgspec.ValidationError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error}; remove it, or pass --force") from None
    kept = {trial.name: trial for trial in trials}  # the last of several counts
    return {name: trial for name, trial in kept.items() if trial.is_final}
