"""A thread that wakes up now and then, for what must happen while a loop pauses."""

import os
import threading
import weakref
from collections.abc import Callable

_alive: "weakref.WeakSet[Heartbeat]" = weakref.WeakSet()
_fork_hooks_set = False


class Heartbeat:
    """Calls `act` every `period_s` seconds from a thread of its own until it is stopped.

    It stands still around a fork: a child of a process with several threads may find locks that
    nobody will ever release, and Python warns about it.
    """

    def __init__(self, act: Callable[[], None], period_s: float) -> None:
        self._act = act
        self._period_s = period_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

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
        self._pause()

    def _run(self) -> None:
        self._stopping = threading.Event()
        thread = threading.Thread(target=self._beat, name="profkit", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread to be had: what is due then waits for the next step
            return
        self._thread = thread

    def _pause(self) -> None:
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _beat(self) -> None:
        stopping = self._stopping
        while not stopping.wait(self._period_s):
            self._act()


def _pause_all() -> None:
    for heartbeat in list(_alive):
        heartbeat._pause()


def _go_on() -> None:
    for heartbeat in list(_alive):
        heartbeat._run()


def _forget() -> None:
    _alive.clear()
