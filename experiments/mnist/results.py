"""What trainings took and reached, kept on disk as soon as each ends."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from .ladder import Rung
from .recipe import Recipe, difference
from .train import Training


@dataclass(frozen=True, slots=True)
class Key:
    """What a training must have in common with one that is kept, to stand for it.

    Attributes:
        rung: its name.
        is_isolated: the change without its riders.
        recipe: what the recipe that was followed changes on the defaults, as text: a rung that is
            declared otherwise now is another one.
        seed: of the training.
        machine: hardware and device.
        versions: of what it ran with.
    """

    rung: str
    is_isolated: bool
    recipe: str
    seed: int
    machine: str
    versions: str


@dataclass(frozen=True, slots=True)
class Result:
    """A training that ended.

    Attributes:
        key: which.
        commit: of profkit's repository.
        is_timed: whether it was alone on its machine; else only its accuracy counts.
        training: what it took and reached.
    """

    key: Key
    commit: str
    is_timed: bool
    training: Training


def key_of(rung: Rung, seed: int, machine: str, versions: str, *, is_isolated: bool) -> Key:
    """The key of a training that is to be done."""
    recipe = rung.isolated if is_isolated else rung.recipe
    changes = repr(difference(Recipe(), recipe))
    return Key(rung.name, is_isolated, changes, seed, machine, versions)


class Results:
    """The results below a directory.

    Args:
        directory: made where it is not there.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / "results.jsonl"
        self._known: list[Result] = []
        if self._path.exists():
            self._known = _read(self._path)

    def of(self, key: Key, *, is_timed: bool) -> Result | None:
        """The training with this key; None where it has not ended yet.

        Args:
            key: which.
            is_timed: whether it must have been alone on its machine; what was may also stand for
                what need not be.
        """
        fits = (one for one in self._known if one.key == key and (one.is_timed or not is_timed))
        return next(fits, None)

    def all(self) -> Sequence[Result]:
        """In the order in which they ended."""
        return tuple(self._known)

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
    return [msgspec.json.decode(line, type=Result) for line in whole.splitlines()]
