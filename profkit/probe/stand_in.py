"""What stands in for a function while its calls are timed, and passes for it meanwhile."""

import operator
import time
from _thread import get_ident
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any, TypeGuard


class CallTimes:
    """Self times of what is called while one batch is made; wrappers share it.

    It refers to nothing of what it times, so that wrappers which somebody has kept keep no data.

    Args:
        count: of the parts.
        now: monotonic clock in ns.

    Attributes:
        thread: whose calls count; 0 for none.
        inner_ns: of the running call, what timed calls within it took.
        total_ns, calls: by part.
        running: parts whose objects are being called, the innermost last.
    """

    __slots__ = ("calls", "inner_ns", "now", "running", "thread", "total_ns")

    def __init__(self, count: int, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.now = now
        self.thread = 0
        self.inner_ns = 0
        self.total_ns = [0] * count
        self.calls = [0] * count
        self.running: list[int] = []

    def begin(self) -> None:
        """Count calls from this thread, from nothing on."""
        self.inner_ns = 0
        self.running.clear()
        for i in range(len(self.calls)):
            self.total_ns[i] = self.calls[i] = 0
        self.thread = get_ident()


class StandIn:
    """A function in all but identity; calls of it are timed.

    Whoever keeps it beyond the batch has what calls the function and nothing else; a copy of it,
    or what is unpickled, is the function itself.

    Args:
        target: the function.
        part: its number.
        times: of all parts.
    """

    __slots__ = ("_profkit_part", "_profkit_target", "_profkit_times")

    def __init__(self, target: Callable[..., Any], part: int, times: CallTimes) -> None:
        put = object.__setattr__
        put(self, "_profkit_target", target)
        put(self, "_profkit_part", part)
        put(self, "_profkit_times", times)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """What the function returns."""
        times = self._profkit_times
        if get_ident() != times.thread:
            return self._profkit_target(*args, **kwargs)
        around, times.inner_ns = times.inner_ns, 0
        now = times.now
        began = now()
        try:
            return self._profkit_target(*args, **kwargs)
        finally:
            took = now() - began
            part = self._profkit_part
            times.total_ns[part] += took - times.inner_ns
            times.calls[part] += 1
            times.inner_ns = around + took

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # for `isinstance`
        return type(self._profkit_target)

    @property
    def __doc__(self) -> Any:  # type: ignore[override]
        return self._profkit_target.__doc__

    @property
    def __module__(self) -> Any:  # type: ignore[override]
        return self._profkit_target.__module__

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_profkit_"):  # a signal's handler has interrupted its making
            raise AttributeError(name)
        return getattr(self._profkit_target, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._profkit_target, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._profkit_target, name)

    def __dir__(self) -> list[str]:
        return dir(self._profkit_target)

    def __repr__(self) -> str:
        return repr(self._profkit_target)

    def __str__(self) -> str:
        return str(self._profkit_target)

    def __eq__(self, other: object) -> Any:
        return self._profkit_target == (other._profkit_target if is_stand_in(other) else other)

    def __hash__(self) -> int:
        return hash(self._profkit_target)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # What the pickler itself knows how to pickle, told without a name of profkit's.
        return operator.getitem, ((self._profkit_target,), 0)

    def __get__(self, item: object, owner: type | None = None) -> Any:
        # In a class, where a function becomes a method and most other callables do not.
        becomes_method = item is not None and type(self._profkit_target) is FunctionType
        return MethodType(self, item) if becomes_method else self


def is_stand_in(item: object) -> TypeGuard[StandIn]:
    """Whether something is one, whatever it says of itself."""
    return type(item) is StandIn


def target_of(item: object, times: CallTimes) -> Any:
    """What one of these times stands in for; None for anything else."""
    if is_stand_in(item) and item._profkit_times is times:
        return item._profkit_target
    return None
