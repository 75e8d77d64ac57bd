"""Times the parts of one batch: transforms and decoders, each call of them."""

import functools
import inspect
import os
import time
import weakref
from _thread import get_ident
from collections.abc import Callable
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any

from ..interruption import pass_on
from ..schema.loader import PartTime
from .part_finder import MOST_HELD, Part, Place
from .replacements import Replacements
from .stand_in import CallTimes, StandIn, target_of

_CALIBRATION_CALLS = 1_000
_in_place: "dict[str, tuple[PartTimes, weakref.ref[Any]]]" = {}
"""The only ones, and for whom: around each other, wrappers would never go away."""
_ONLY = "only"
_NOBODY: "tuple[PartTimes | None, Callable[[], Any]]" = (None, lambda: None)


class PartTimes:
    """Wrappers around the parts of a dataset's samples, in place for one batch at a time.

    Functions are replaced where they are referred to. Calls of objects are told from their class,
    so that the object itself stays what it is to whoever looks at it.

    Args:
        parts: see `part_finder`.
        now: monotonic clock in ns.

    Attributes:
        is_stale: whether something else was found in a part's place, which was left alone.
    """

    def __init__(
        self, parts: tuple[Part, ...], now: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self.is_stale = False
        self._parts = parts
        self._times = times = CallTimes(len(parts), now)
        self._functions = [
            (place, StandIn(part.target, i, times))
            for i, part in enumerate(parts)
            for place in part.places
        ]
        objects = {id(part.target): i for i, part in enumerate(parts) if not part.places}
        kinds = {type(part.target): None for part in parts if not part.places}
        self._kinds = [
            (kind, original, _told(original, objects, times))
            for kind in kinds
            # Others are static or bound in ways of their own.
            if isinstance(original := inspect.getattr_static(kind, "__call__"), FunctionType)
        ]
        self._put: list[tuple[Place, StandIn]] = []
        self._classes = Replacements()
        # Of each call, what lies within its own time and what in that of its caller.
        self._inside_ns, self._outside_ns = _calibrate(now) if parts else (0.0, 0.0)

    def __len__(self) -> int:
        return len(self._parts)

    def begin(self, keeper: object) -> bool:
        """Put the wrappers in place, for calls from this thread, until `end`.

        Args:
            keeper: who will call `end`, or was interrupted, if it comes again or is gone.

        Returns:
            Whether they are; not while those of another batch are, and where the parts are no
            longer what was found: then none is.
        """
        mine = (self, weakref.ref(keeper))
        try:
            if are_in_place(keeper) or _in_place.setdefault(_ONLY, mine) is not mine:
                return False
            self._times.begin()
            self.is_stale = not self._put_all()
        except BaseException:
            self.end()
            raise
        if self.is_stale:
            self.end()
        return not self.is_stale

    def end(self) -> tuple[tuple[PartTime, ...], int]:
        """Take them away, wherever they have got to within what they were put into.

        Returns:
            The parts that were called, and how much longer timing them made the batch, in ns.
        """
        try:
            self.take_away()
        finally:
            if _in_place.get(_ONLY, _NOBODY)[0] is self:  # a forked process has it no longer
                del _in_place[_ONLY]
        times, inside, outside = self._times, self._inside_ns, self._outside_ns
        found = tuple(
            PartTime(part.kind, part.name, max(0, total - round(calls * inside)), calls)
            for part, total, calls in zip(self._parts, times.total_ns, times.calls, strict=True)
            if calls
        )
        return found, round(sum(times.calls) * (inside + outside))

    def take_away(self) -> None:
        """Take the wrappers away, whatever they have timed."""
        self._times.thread = 0
        self._classes.put_back()
        swept: dict[int, Any] = {}
        while self._put:
            place, stand_in = self._put.pop()
            try:
                if _get(place) is stand_in:
                    _set(place, stand_in._profkit_target)
            except Exception as error:  # a list that became shorter meanwhile
                pass_on(error)
            swept[id(place.owner)] = place.owner
        for owner in swept.values():
            self._sweep(owner)

    @property
    def taken_ns(self) -> int:
        """Self time of all parts since `begin`."""
        return sum(self._times.total_ns)

    def _put_all(self) -> bool:
        if not all(_get(place) is it._profkit_target for place, it in self._functions):
            return False
        for kind, original, _ in self._kinds:
            if inspect.getattr_static(kind, "__call__", None) is not original:
                return False
        for place, stand_in in self._functions:
            if isinstance(place.owner, (type, ModuleType)):
                self._classes.put(place.owner, place.key, stand_in)
            else:
                self._put.append((place, stand_in))
                _set(place, stand_in)
        for kind, _, told in self._kinds:
            self._classes.put(kind, "__call__", told)
        return True

    def _sweep(self, owner: Any) -> None:
        """Put back what was moved within a list or dictionary: shuffled, or kept by a name."""
        if not isinstance(owner, (list, dict)) or len(owner) > MOST_HELD:
            return
        held = owner.items() if isinstance(owner, dict) else enumerate(owner)
        for key, value in list(held):
            target = target_of(value, self._times)
            if target is not None:
                _set(Place(owner, key), target)


def are_in_place(keeper: object) -> bool:
    """Whether the parts of another's batch are being timed in this process.

    What somebody left there who was interrupted is taken away.

    Args:
        keeper: who asks.
    """
    parts, whose = _in_place.get(_ONLY, _NOBODY)
    if parts is None:
        return False
    if whose() not in (None, keeper):
        return True
    parts.end()
    return False


def _told(original: FunctionType, objects: dict[int, int], times: CallTimes) -> Any:
    """Calls of all objects of a class, timed for those that are parts."""
    running, now = times.running, times.now

    @functools.wraps(original)
    def __call__(item: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        i = objects.get(id(item))
        # A class below this one may have called it already, for the same object.
        if i is None or get_ident() != times.thread or (running and running[-1] == i):
            return original(item, *args, **kwargs)
        around, times.inner_ns = times.inner_ns, 0
        running.append(i)
        began = now()
        try:
            return original(item, *args, **kwargs)
        finally:
            took = now() - began
            running.pop()
            times.total_ns[i] += took - times.inner_ns
            times.calls[i] += 1
            times.inner_ns = around + took

    return __call__


def _calibrate(now: Callable[[], int]) -> tuple[float, float]:
    """What timing a call costs, within its own time and around it, in ns."""
    times = CallTimes(1, now)
    call = StandIn(_nothing, 0, times)
    times.begin()
    began = now()
    for _ in range(_CALIBRATION_CALLS):
        _nothing()
    middle = now()
    for _ in range(_CALIBRATION_CALLS):
        call()
    ended = now()
    bare = (middle - began) / _CALIBRATION_CALLS
    inside = max(0.0, times.total_ns[0] / _CALIBRATION_CALLS - bare)
    return inside, max(0.0, (ended - middle) / _CALIBRATION_CALLS - bare - inside)


def _nothing() -> None:
    """What a timed call is calibrated on."""


def _get(place: Place) -> Any:
    owner, key = place.owner, place.key
    if isinstance(owner, dict):
        return dict.get(owner, key)
    if isinstance(owner, list):
        return list.__getitem__(owner, key) if key < list.__len__(owner) else None
    if isinstance(key, MemberDescriptorType):
        return key.__get__(owner)
    return owner.__dict__.get(key)


def _set(place: Place, value: Any) -> None:
    owner, key = place.owner, place.key
    if isinstance(owner, dict):
        dict.__setitem__(owner, key, value)
    elif isinstance(owner, list):
        list.__setitem__(owner, key, value)
    else:
        key.__set__(owner, value)


def _let_go() -> None:
    """In a forked process nothing is timed any more, whatever another thread was about to do."""
    parts, _ = _in_place.pop(_ONLY, _NOBODY)
    if parts is not None:
        parts.take_away()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
