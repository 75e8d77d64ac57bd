"""Who calls whom among a few functions, seen on the first calls only."""

import sys
from collections import Counter
from types import FrameType

CodeKey = tuple[str, int]
"""File and first line: line_profiler gives functions other code objects, but keeps these."""

WATCHED_EVENTS = 200_000
"""Calls and returns watched for who calls whom: about 0.1 s in all, then the hook goes away."""


class CallWatch:
    """Counts which line of a timed function led to which other timed function.

    Args:
        timed: the functions looked at. What runs between two of them is passed over.
    """

    def __init__(self, timed: frozenset[CodeKey]) -> None:
        self._timed = timed
        self._left = WATCHED_EVENTS
        self._counts: Counter[tuple[CodeKey, int, CodeKey]] = Counter()

    def start(self) -> None:
        """Watch this thread, unless somebody else profiles it."""
        # One profile function a thread: somebody else's stays, and the lines simply nest. A
        # forked worker has a copy of the main process's, which nobody reads.
        current = sys.getprofile()
        if current is None or isinstance(getattr(current, "__self__", None), CallWatch):
            sys.setprofile(self._see)

    def stop(self) -> None:
        """Watch no longer; nothing to do where enough was seen."""
        if sys.getprofile() == self._see:
            sys.setprofile(None)

    def calls(self) -> list[dict[str, object]]:
        """What was seen, as `line_times` stores it."""
        return [
            {
                "file": caller[0],
                "first_line": caller[1],
                "line": line,
                "callee_file": callee[0],
                "callee_first_line": callee[1],
                "count": count,
            }
            for (caller, line, callee), count in sorted(self._counts.items())
        ]

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        self._left -= 1
        if self._left <= 0:
            sys.setprofile(None)
            return
        if event != "call":
            return
        callee = (frame.f_code.co_filename, frame.f_code.co_firstlineno)
        if callee not in self._timed:
            return
        above = frame.f_back
        while above is not None:
            caller = (above.f_code.co_filename, above.f_code.co_firstlineno)
            if caller in self._timed:
                self._counts[(caller, above.f_lineno, callee)] += 1
                return
            above = above.f_back
