"""What trainings took and reached, kept on disk as soon as each ends."""

import ast
import fcntl
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import msgspec

import profkit

from .machine import Machine
from .task import Task
from .train import Training

_HERE, _PROFKIT = Path(__file__).parent, Path(profkit.__file__).parent
_TRAINING = (
    *(_HERE / f"{name}.py" for name in ("train", "networks", "feeding", "augmenting")),
    *(_PROFKIT / "workloads" / f"{name}.py" for name in ("mnist", "sources")),
)


@dataclass(frozen=True, slots=True)
class Key:
    """What a training must have in common with one that is kept, to stand for it.

    Attributes:
        recipe: the whole of it, as JSON: a rung that is declared otherwise now is another one.
        seed: of the training.
        is_validated: see `Task`.
        machine: hardware and device.
        versions: of what it ran with.
        code: of what trains; see `code_of`.
    """

    recipe: str
    seed: int
    is_validated: bool
    machine: str
    versions: str
    code: str


@dataclass(frozen=True, slots=True)
class Result:
    """A training that ended.

    Attributes:
        key: which.
        rung: its name, for readers.
        series: the command in whose turns it was timed, alone on its machine; None where others
            may have run beside it: then only its accuracy counts.
        commit: of this repository.
        day: when it ended, such as 2026-01-31.
        training: what it took and reached.
    """

    key: Key
    rung: str
    series: str | None
    commit: str
    day: str
    training: Training


def key_of(task: Task, machine: Machine) -> Key:
    """The key of a training that is to be done on a machine."""
    recipe = msgspec.json.encode(task.recipe).decode()
    return Key(
        recipe, task.seed, task.is_validated, machine.place, machine.versions, code_of(_TRAINING)
    )


def recording_name(task: Task, machine: Machine) -> str:
    """Of a run directory: another one for other code, of training or of profkit."""
    whole = msgspec.json.encode([key_of(task, machine), code_of(_PROFKIT.rglob("*.py"))])
    return f"{task.rung.name}-{hashlib.sha256(whole).hexdigest()[:8]}"


def code_of(sources: Iterable[Path]) -> str:
    """A word for what Python files say, whatever their comments and layout."""
    return _code_of(tuple(sorted(sources)))


@cache
def _code_of(sources: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in sources:
        digest.update(ast.dump(ast.parse(path.read_text())).encode())
    return digest.hexdigest()[:12]


class InUseError(click.ClickException):
    """Somebody else's results are on their way to a directory."""


class Results:
    """The results below a directory, which is held: by this process and by trainings it starts.

    Args:
        directory: made where it is not there.

    Raises:
        InUseError: another command holds it, or a training that one has left running.
        click.ClickException: what is kept there is none of this.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        # Whoever inherits it holds the lock as well.
        self.lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.lock)
            raise InUseError(
                f"{directory} is in use by another command, or by a training that one left "
                "running: wait until that ends, or give another --kept"
            ) from None
        self._path = directory / "results.jsonl"
        self._known = _read(self._path) if self._path.exists() else []

    def close(self) -> None:
        """Let others have the directory."""
        os.close(self.lock)

    def of(self, key: Key, series: str | None) -> Result | None:
        """The training with this key; None where it has not ended yet.

        Args:
            key: which.
            series: that it must have been timed in; None: any will do, for its accuracy.
        """
        fits = (
            one
            for one in self._known
            if one.key == key and (series is None or one.series == series)
        )
        return next(fits, None)

    def add(self, result: Result) -> None:
        """Keep a result: on disk before this returns."""
        with self._path.open("ab") as file:
            file.write(msgspec.json.encode(result) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._known.append(result)


def _read(path: Path) -> list[Result]:
    """All whole lines; what was being written as the process was killed is cut off."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    try:
        return [msgspec.json.decode(line, type=Result) for line in whole.splitlines()]
    except msgspec.MsgspecError as error:
        raise click.ClickException(
            f"{path}: {error}; it holds no results of this version: give another --kept"
        ) from None
