"""Times the parts of one batch: transforms and decoders, each call of them."""

import time
from _thread import get_ident
from collections.abc import Callable
from typing import Any

from ..interruption import pass_on
from ..schema.loader import PartTime
from .part_finder import Part, Place

_CALIBRATION_CALLS = 1_000
_MISSING = object()


class PartTimes:
    """Wrappers around the parts of a dataset's samples, in place for one batch at a time.

    Functions are replaced where they are referred to. Calls of objects are told from their class,
    so that the object itself stays what it is to whoever looks at it.

    Args:
        parts: see `part_finder`.
        now: monotonic clock in ns.
    """

    def __init__(
        self, parts: tuple[Part, ...], now: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._parts = parts
        self._now = now
        self._thread = 0
        self._inner_ns = 0
        self._total_ns = [0] * len(parts)
        self._calls = [0] * len(parts)
        self._running: list[int] = []
        self._undo: list[tuple[Place, Any, Any]] = []
        self._functions = [
            (place, self._timed(i, part.target))
            for i, part in enumerate(parts)
            for place in part.places
        ]
        self._objects = {id(part.target): i for i, part in enumerate(parts) if not part.places}
        kinds = {type(part.target): None for part in parts if not part.places}
        self._kinds = [(kind, self._told(kind.__call__)) for kind in kinds]
        # Of each call, what lies within its own time and what in that of its caller.
        self._inside_ns, self._outside_ns = self._calibrate()

    def __len__(self) -> int:
        return len(self._parts)

    def begin(self) -> None:
        """Put the wrappers in place, for calls from this thread."""
        self._thread = get_ident()
        self._inner_ns = 0
        self._running.clear()
        for i in range(len(self._parts)):
            self._total_ns[i] = self._calls[i] = 0
        for place, wrapper in self._functions:
            self._put(place, wrapper)
        for kind, wrapper in self._kinds:
            self._put(Place(kind, "__call__"), wrapper)

    def end(self) -> tuple[tuple[PartTime, ...], int]:
        """Take them away.

        Returns:
            The parts that were called, and how much longer timing them made the batch, in ns.
        """
        while self._undo:
            place, wrapper, before = self._undo.pop()
            try:
                if _get(place) is wrapper:
                    _set(place, before)
            except Exception as error:  # a list that became shorter meanwhile
                pass_on(error)
        self._thread = 0
        inside, outside = self._inside_ns, self._outside_ns
        times = tuple(
            PartTime(part.kind, part.name, max(0, total - round(calls * inside)), calls)
            for part, total, calls in zip(self._parts, self._total_ns, self._calls, strict=True)
            if calls
        )
        return times, round(sum(self._calls) * (inside + outside))

    @property
    def taken_ns(self) -> int:
        """Self time of all parts since `begin`."""
        return sum(self._total_ns)

    def _put(self, place: Place, wrapper: Any) -> None:
        try:
            before = _get(place)
            self._undo.append((place, wrapper, before))
            _set(place, wrapper)
        except Exception as error:  # a class of C, or one that forbids it
            pass_on(error)

    def _timed(self, i: int, target: Callable[..., Any]) -> Callable[..., Any]:
        now = self._now

        def call(*args: Any, **kwargs: Any) -> Any:
            if get_ident() != self._thread:
                return target(*args, **kwargs)
            around, self._inner_ns = self._inner_ns, 0
            began = now()
            try:
                return target(*args, **kwargs)
            finally:
                took = now() - began
                self._total_ns[i] += took - self._inner_ns
                self._calls[i] += 1
                self._inner_ns = around + took

        return call

    def _told(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Calls of all objects of a class, timed for those that are parts."""
        objects, running, now = self._objects, self._running, self._now

        def __call__(item: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            i = objects.get(id(item))
            # A class below this one may have called it already, for the same object.
            if i is None or get_ident() != self._thread or (running and running[-1] == i):
                return original(item, *args, **kwargs)
            around, self._inner_ns = self._inner_ns, 0
            running.append(i)
            began = now()
            try:
                return original(item, *args, **kwargs)
            finally:
                took = now() - began
                running.pop()
                self._total_ns[i] += took - self._inner_ns
                self._calls[i] += 1
                self._inner_ns = around + took

        return __call__

    def _calibrate(self) -> tuple[float, float]:
        """What timing a call costs, within its own time and around it, in ns."""
        if not self._parts:
            return 0.0, 0.0
        total, calls = self._total_ns[0], self._calls[0]
        call, now = self._timed(0, _nothing), self._now
        self._thread = get_ident()
        began = now()
        for _ in range(_CALIBRATION_CALLS):
            _nothing()
        middle = now()
        for _ in range(_CALIBRATION_CALLS):
            call()
        ended = now()
        inside = (self._total_ns[0] - total) / _CALIBRATION_CALLS
        bare = (middle - began) / _CALIBRATION_CALLS
        self._thread = 0
        self._inner_ns = 0
        self._total_ns[0], self._calls[0] = total, calls
        inside = max(0.0, inside - bare)
        return inside, max(0.0, (ended - middle) / _CALIBRATION_CALLS - bare - inside)


def _nothing() -> None:
    """What a timed call is calibrated on."""


def _get(place: Place) -> Any:
    owner, key = place.owner, place.key
    if isinstance(owner, (dict, list)):
        return owner[key]
    return owner.__dict__.get(key, _MISSING)


def _set(place: Place, value: Any) -> None:
    owner, key = place.owner, place.key
    if isinstance(owner, (dict, list)):
        owner[key] = value
    elif value is _MISSING:
        delattr(owner, key)
    else:
        setattr(owner, key, value)
