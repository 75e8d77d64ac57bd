"""Whether this process is observed, and sources of training data that are seen where it is.

Programs say `profkit.watch` whether they are observed or not: this module loads nothing that is
slow, which would be part of their first step.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")

_active: "Observed | None" = None


class SourceClock(Protocol):
    """What sees requests for batches.

    Attributes:
        busy: whether the loop is in a stage that owns whatever is called from it.
    """

    busy: bool

    def watch(self, iterator: Iterator[T]) -> Iterator[T]:
        """The batches, with the requests for them observed."""


class Observed(Protocol):
    """An observation of this process."""

    @property
    def clock(self) -> SourceClock:
        """Of its loop."""


def active() -> Observed | None:
    """The observation that goes on in this process."""
    return _active


def activate(observation: Observed | None) -> None:
    """Have this observation go on from now; None: there is none any more."""
    global _active
    _active = observation


class Watched(Generic[T]):
    """An iterable whose batches open steps where the program is observed; see `watch`."""

    def __init__(self, iterable: Iterable[T]) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[T]:
        iterator = iter(self._iterable)
        seen = active()
        if seen is None or seen.clock.busy:
            return iterator
        return seen.clock.watch(iterator)

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # its TypeError is the right one

    def __bool__(self) -> bool:
        return bool(self._iterable)  # without this, its length would be asked for

    def __getattr__(self, name: str) -> Any:
        """Whatever else the iterable has."""
        if name == "_iterable":  # not there yet: it is being copied or unpickled
            raise AttributeError(name)
        return getattr(self._iterable, name)


def watch(iterable: Iterable[T]) -> Watched[T]:
    """The batches of any iterable, marked as a source of training data.

    DataLoaders are seen by themselves; this is for generators, queues and readers. Under `profkit
    run` each request opens a step, and the wait for it is the stage `dataloader`. In a program
    that is not observed it changes nothing.
    """
    return Watched(iterable)
