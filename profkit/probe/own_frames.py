"""Tracebacks as they would be without profkit."""

from types import TracebackType

from .module_call import is_inner_call

_PACKAGE = __name__.partition(".")[0]


def without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without profkit's frames: those that started the program, and its hooks."""
    while trace is not None and _is_own(trace):
        trace = trace.tb_next
    last = trace
    while last is not None:
        following = last.tb_next
        while following is not None and _is_own(following):
            following = following.tb_next
        last.tb_next = following
        last = following
    return trace


def _is_own(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_globals.get("__name__")
    if not isinstance(name, str) or name.split(".")[0] != _PACKAGE:
        return False
    return not is_inner_call(trace.tb_frame.f_code, trace.tb_lineno)


def strip(error: BaseException | None) -> None:
    """Take profkit's frames out of an exception and of all that it is chained to."""
    left, seen = [error], set()
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = without_own_frames(one.__traceback__)
        left += [one.__cause__, one.__context__]
        # Groups of exceptions, since Python 3.11.
        left += getattr(one, "exceptions", ())
