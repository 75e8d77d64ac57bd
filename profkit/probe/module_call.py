"""What stands in for `Module.__call__`: nothing more within a model than torch's own does.

A model may have thousands of modules inside the one that is called, and each passes here.
"""

import functools
import linecache
import sys
from collections.abc import Callable
from typing import Any, Protocol

INNER_LINE = 2
"""Lines from the beginning of `call` to the one that calls a module within another one."""
_INNER = "return self._call_impl(*args, **kwargs)"


class Watching(Protocol):
    """Knows whether a module is called within something that is observed already."""

    busy: bool


def module_call(
    clock: Watching, original: Callable[..., Any], outermost: Callable[..., Any]
) -> Callable[..., Any]:
    """A `__call__` that hands outermost calls to `outermost(module, args, kwargs)`.

    Inner ones go on as torch's own `__call__` does, in its place and not on top of it; and where
    that is the known one, a traceback shows just its line.
    """

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if clock.busy and self._compiled_call_impl is None:
            return self._call_impl(*args, **kwargs)
        return outermost(self, args, kwargs)

    # By its code: what somebody has put around it may bear its name, and wants to see every call.
    if getattr(getattr(original, "__code__", None), "co_name", None) != "_wrapped_call_impl":

        def careful(self: Any, *args: Any, **kwargs: Any) -> Any:
            return outermost(self, args, kwargs)

        return functools.wraps(original)(careful)
    return functools.wraps(original)(_dressed(call, original))


def _dressed(call: Any, original: Any) -> Callable[..., Any]:
    """The same function, seen in tracebacks as torch's."""
    code = original.__code__
    for line in range(code.co_firstlineno, code.co_firstlineno + 20):
        if linecache.getline(code.co_filename, line).strip() == _INNER:
            changes = {
                "co_filename": code.co_filename,
                "co_firstlineno": line - INNER_LINE,
                "co_name": code.co_name,
            }
            if sys.version_info >= (3, 11):
                changes["co_qualname"] = code.co_qualname
            call.__code__ = call.__code__.replace(**changes)
            break
    dressed: Callable[..., Any] = call
    return dressed


def is_inner_call(code: Any, line: int) -> bool:
    """Whether a frame of this module's is one that a traceback should show as torch's."""
    return bool(code.co_name == "_wrapped_call_impl" and line == code.co_firstlineno + INNER_LINE)
