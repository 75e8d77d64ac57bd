"""Tunes a program into a directory: what was measured stays there, so that a killed one goes on."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from .errors import OutputError, RunError
from .render.tuning import render_tuning_json, render_tuning_markdown
from .schema.tuning import TUNE_SCHEMA, Trial, TuneFindings
from .scripts.target import Target
from .store.run_directory import write_file
from .verify.tune import TuneOrder, tune

MOST_SOURCES = 500
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
    """Tells one program from another, and from itself after a change."""
    named = TUNE_SCHEMA, target.kind, os.path.abspath(target.name), target.arguments
    found = hashlib.sha256(repr(named).encode())
    for path in _sources(target):
        found.update(repr((path.name, path.stat().st_size)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _sources(target: Target) -> list[Path]:
    """The program, and the modules that lie beside it."""
    place = Path(target.name) if target.kind == "script" else Path()
    place = place if place.is_dir() else place.parent
    beside = sorted(place.glob("*.py")) + sorted(place.glob("*/*.py"))
    script = [Path(target.name)] if target.kind == "script" else []
    return [path for path in dict.fromkeys((*script, *beside[:MOST_SOURCES])) if path.is_file()]


def _read(path: Path, mark: str) -> dict[str, Trial]:
    """The trials that a killed tuning of the same program has left."""
    if not path.is_file():
        return {}
    first, *lines = path.read_bytes().split(b"\n")[:-1] or [b"{}"]
    try:
        if msgspec.json.decode(first).get("mark") != mark:
            return {}
        trials = [msgspec.json.decode(line, type=Trial) for line in lines if line]
    except (msgspec.DecodeError, msgspec.ValidationError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error}; remove it, or pass --force") from None
    return {trial.name: trial for trial in trials}
