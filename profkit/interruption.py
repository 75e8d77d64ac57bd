"""What a signal's handler raises belongs to the program, wherever it strikes.

Python runs handlers between two instructions of the main thread, whatever these do. A scheduler's
time limit that strikes while profkit writes must end the training as it would without profkit;
only what goes wrong with profkit itself may be kept from it. Where a handler that raises would cut
in two what must stay whole, it waits.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import CO_VARARGS
from types import FrameType, TracebackType
from typing import Any

_PACKAGE = __name__.partition(".")[0]


@contextmanager
def postponed() -> Iterator[None]:
    """Have handlers of signals wait, such as Ctrl-C's: for a few calls that must not be torn apart.

    A process that was just started, say, and whose number nobody has kept yet. Each handler is
    called once at the end, with what it raises, if its signal came meanwhile. Handlers run in the
    main thread only; in others nothing waits.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: set[int] = set()
    with ExitStack() as stack:  # one that raises does not keep the others from being put back
        for number in signal.valid_signals():
            handler = signal.getsignal(number)
            if callable(handler):
                stack.callback(_put_back, number, handler, came)
                signal.signal(number, lambda number, _: came.add(number))
        yield


def _put_back(number: int, handler: Callable[..., Any], came: set[int]) -> None:
    signal.signal(number, handler)
    if number in came:
        signal.raise_signal(number)


def pass_on(error: BaseException) -> None:
    """Raise what a signal's handler raised, if that is what an error of profkit's comes from.

    Args:
        error: caught around work of profkit's own.
    """
    found = _raised_by_handler(error)
    if found is not None:
        context = found.__context__
        try:
            raise found
        finally:
            found.__context__ = context  # not `error`, which may have been made from it


def _raised_by_handler(error: BaseException) -> BaseException | None:
    met: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in met:
        met.add(id(one))
        trace = one.__traceback__
        # What the program itself is just handling has been caught in a frame of its own.
        if trace is not None and _is_own(trace.tb_frame) and _through_handler(trace):
            return one
        one = one.__cause__ or one.__context__
    return None


def _is_own(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] == _PACKAGE


def _through_handler(trace: TracebackType) -> bool:
    """Whether a handler was called on the way: its caller is what it was told to interrupt."""
    while trace.tb_next is not None:
        if _is_told(trace.tb_next.tb_frame, trace.tb_frame):
            return True
        trace = trace.tb_next
    return False


def _is_told(frame: FrameType, caller: FrameType) -> bool:
    """Whether a frame got its own caller as an argument, which only handlers do."""
    code = frame.f_code
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & CO_VARARGS)
    local = frame.f_locals
    for name in code.co_varnames[:count]:
        told = local.get(name)
        if told is caller or (isinstance(told, tuple) and any(one is caller for one in told)):
            return True
    return False
