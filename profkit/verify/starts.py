"""Starts instances of the program that is tuned, and counts them."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from ..schema.fix import FixOrder
from .instance import Instance, Launch
from .places import Place, VersionPlaces
from .repository import OF_A_HOOK

WARMUP_STEPS = 12
WATCHED = 8
"""First batches and losses that must stay equal; within the warm-up."""
AS_IT_IS = (FixOrder(watched=WATCHED), "the program as it is")


class SpentError(Exception):
    """The program was started as often as was said before."""


class Starts:
    """Where and how instances start.

    Args:
        version: its places.
        logs: directory for what the instances print.
        most: how often the program may be started.

    Attributes:
        runs: how often it was.
    """

    def __init__(self, version: VersionPlaces, logs: Path, most: int) -> None:
        self._version = version
        self._unused = list(version.places)
        self._in_use: dict[Path, Place] = {}
        self._logs = logs
        self._most = most
        self.runs = 0
        roots = [place.root for place in version.places]
        # A directory that is too large to be copied often is there once.
        self._is_shared = len(set(roots)) < len(roots)

    def place(self) -> Place:
        """One more place; counts as a start.

        Raises:
            SpentError: there were enough.
        """
        if self.runs >= self._most:
            raise SpentError(f"the program was started {self._most} times, as often as was said")
        self.runs += 1
        place = self._unused.pop(0) if self._unused else self._version.another()
        self._in_use[place.directory] = place
        return place

    def log(self) -> Path:
        """A file for what the last one prints."""
        return self._logs / str(self.runs)

    def launch(self, fixes: FixOrder, name: str) -> Launch:
        """How one more instance is started.

        Args:
            fixes: that it applies.
            name: of them, for messages.

        Raises:
            SpentError: there were enough.
        """
        place = self.place()
        return Launch(
            place.target, place.directory, variables(place), self.log(), WARMUP_STEPS, name, fixes
        )

    def keep_only(self, instances: Collection[Instance]) -> None:
        """Remove the copies of the program's directory in which no instance lives any more."""
        living = {one.launch.place for one in instances}
        for directory in [one for one in self._in_use if one not in living]:
            place = self._in_use.pop(directory)
            if not self._is_shared:
                shutil.rmtree(place.root, ignore_errors=True)


def variables(place: Place) -> dict[str, str]:
    """The environment of a process that runs in a place."""
    own = {key: value for key, value in os.environ.items() if key not in OF_A_HOOK}
    return {**own, **place.environment}
