"""A training that is to be done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .ladder import Rung
from .recipe import Recipe, changed


@dataclass(frozen=True, slots=True)
class Task:
    """A rung with a seed.

    Attributes:
        rung: which.
        seed: of its first weights, order and chance.
        is_isolated: its change without its riders.
        changes: of its recipe beyond that: new values by path.
        is_validated: trained without the last training images, which stand for the test images.
    """

    rung: Rung
    seed: int
    is_isolated: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)
    is_validated: bool = False

    @property
    def recipe(self) -> Recipe:
        """What is followed."""
        before = self.rung.isolated if self.is_isolated else self.rung.recipe
        return changed(before, self.changes)

    @property
    def words(self) -> str:
        """What it is called in messages."""
        alone = ["without riders"] if self.is_isolated else []
        changes = [f"{path}={value!r}" for path, value in self.changes.items()]
        return ", ".join([self.rung.name, *alone, *changes, f"seed {self.seed}"])

    @property
    def arguments(self) -> Sequence[str]:
        """Of `experiments.mnist.program`."""
        told = [self.rung.name, "--seed", str(self.seed)]
        if self.is_isolated:
            told.append("--isolate")
        for path, value in self.changes.items():
            told += ["--change", f"{path}={getattr(value, 'name', value)!s}"]
        if self.is_validated:
            told.append("--validate")
        return told
