"""A thread that wakes up now and then, for what must happen while a loop pauses."""

import contextlib
import os
import weakref
from _thread import start_new_thread
from collections.abc import Callable
from threading import Event, RLock, get_ident

_STOP_WAIT_S = 5.0
_FORK_WAIT_S = 1.0
"""Longest that a fork waits for an act that goes on. The thread that forks may hold what the act
waits for: a signal's handler or a finalizer may fork at any moment."""
_alive: "weakref.WeakSet[Heartbeat]" = weakref.WeakSet()
_fork_hooks_set = False


class Heartbeat:
    """Calls `act` every `period_s` seconds from a thread of its own until it is stopped.

    It stands still around a fork: a child of a process with several threads may find locks that
    nobody will ever release, and Python warns about it. The thread is not known to `threading`: a
    program that waits for all threads that there are would wait for this one forever.

    Args:
        act: what it raises ends the thread without a word.
        period_s: pause between two calls.
    """

    def __init__(self, act: Callable[[], None], period_s: float) -> None:
        self._act = act
        self._period_s = period_s
        self._halt: Event | None = None
        self._done = Event()
        self._ident = 0
        # Reentrant: a signal's handler may end the program while this is held.
        self._changing = RLock()

    def start(self) -> None:
        """Begin, in this process."""
        global _fork_hooks_set
        if not _fork_hooks_set and hasattr(os, "register_at_fork"):
            _fork_hooks_set = True
            os.register_at_fork(before=_pause_all, after_in_parent=_go_on, after_in_child=_forget)
        _alive.add(self)
        self._run()

    def stop(self) -> None:
        """End, and wait for an act that goes on."""
        _alive.discard(self)
        # Not for ever: who stops it may hold what the act waits for.
        self._pause(_STOP_WAIT_S)

    def _run(self) -> None:
        with self._changing:
            # Two threads may fork at once: whoever comes back first has set it going.
            if self not in _alive or self._halt is not None:
                return
            halt, done = Event(), Event()
            try:
                start_new_thread(self._beat, (halt, done))
            except RuntimeError:  # no thread to be had: what is due then waits for the next step
                return
            self._halt, self._done = halt, done

    def _pause(self, limit_s: float | None = None) -> None:
        with self._changing:
            halt, self._halt = self._halt, None
            done, ident = self._done, self._ident
        if halt is not None:
            halt.set()
            if ident != get_ident():
                done.wait(limit_s)

    def _beat(self, halt: Event, done: Event) -> None:
        self._ident = get_ident()
        with contextlib.suppress(BaseException):
            while not halt.wait(self._period_s):
                self._act()
        done.set()


def _pause_all() -> None:
    for heartbeat in list(_alive):
        heartbeat._pause(_FORK_WAIT_S)


def _go_on() -> None:
    for heartbeat in list(_alive):
        heartbeat._run()


def _forget() -> None:
    _alive.clear()
