"""Stack samples of one thread, taken by another one of the same process.

For where py-spy may not attach. The two differ in one way: this thread runs only when the
interpreter lets it, so it sees a long call into C that keeps the interpreter once it is over. The
samples that were due meanwhile count for it.
"""

import atexit
import contextlib
import os
import sys
import time
import weakref
from _thread import start_new_thread
from collections import Counter
from pathlib import Path
from threading import Event, get_ident, get_native_id
from types import FrameType

_GOLDEN = 0.6180339887498949
"""Multiples of it, modulo 1, spread evenly: steps of 20 ms are not always seen at one moment."""
_MOST_FRAMES = 1000
_FORK_WAIT_S = 1.0

_Stack = tuple[tuple[str, str, int], ...]

_at_work: "weakref.WeakSet[ThreadSamples]" = weakref.WeakSet()
_fork_hooks_set = False


class ThreadSamples:
    """Samples the thread that makes it, at once and for so long.

    The sampling thread draws no random number, holds no lock that others use, and is not known
    to `threading`: neither `threading.enumerate` nor a profile or trace function that the script
    set for new threads sees it. It pauses around a fork.

    Args:
        rate_hz: samples a second.
        length_s: how long; it then ends by itself.

    Raises:
        RuntimeError: the system gives no further thread.
    """

    def __init__(self, rate_hz: int, length_s: float) -> None:
        self._ident, self._native_id = get_ident(), get_native_id()
        self._period_s = 1 / rate_hz
        self._wanted = max(1, round(rate_hz * length_s))
        self._taken = 0
        self._stacks: Counter[_Stack] = Counter()
        self._began_s = time.monotonic()
        self._pid = os.getpid()
        self._run()
        _set_fork_hooks()
        _at_work.add(self)
        atexit.register(self.stop)

    @property
    def has_ended(self) -> bool:
        """Whether no more samples come."""
        return self._done.is_set()

    def stop(self, limit_s: float = 1.0) -> None:
        """Take no more samples; waits until the thread is gone. Does nothing in a forked child."""
        _at_work.discard(self)
        atexit.unregister(self.stop)
        if os.getpid() == self._pid:
            self._pause(limit_s)

    def write(self, out: Path) -> None:
        """Write what was seen in the format of py-spy's raw text; nothing if that is nothing.

        Raises:
            OSError: it cannot be written.
        """
        rows = (
            f"thread ({self._native_id});{';'.join(map(_frame_text, stack))} {count}\n"
            for stack, count in self._stacks.items()
        )
        if text := "".join(rows):
            out.write_text(text, "utf-8", "backslashreplace")

    def _run(self) -> None:
        self._halt, self._done = Event(), Event()
        # Not a `threading.Thread`: the script would see one more, and its own hooks would run in
        # it. Like a daemon thread it keeps no interpreter alive.
        start_new_thread(self._sample, (self._halt, self._done))

    def _pause(self, limit_s: float) -> None:
        self._halt.set()
        self._done.wait(limit_s)

    def _resume(self) -> None:
        if self._taken < self._wanted:
            self._run()

    def _sample(self, halt: Event, done: Event) -> None:
        # The interpreter may be going down, or out of memory: there is nobody to tell.
        with contextlib.suppress(BaseException):
            while self._taken < self._wanted:
                delay = self._due_s(self._taken) - time.monotonic()
                # Also where it is late, for then others wait for the interpreter.
                if halt.wait(max(0.0, delay)):
                    break
                self._take()
        done.set()

    def _due_s(self, sample: int) -> float:
        # From the beginning and not from the sample before: being late does not add up.
        return self._began_s + (sample + sample * _GOLDEN % 1) * self._period_s

    def _see(self) -> _Stack:
        """The stack of the sampled thread; nothing if it is gone."""
        return _stack_of(self._ident)

    def _take(self) -> None:
        stack = self._see()
        late_s = time.monotonic() - self._began_s
        due = min(self._wanted, max(self._taken + 1, int(late_s / self._period_s)))
        if stack:
            self._stacks[stack] += due - self._taken
        self._taken = due


def _stack_of(ident: int) -> _Stack:
    """Function, file and line of each frame of a thread, outermost first; () if it is gone."""
    frames: list[tuple[str, str, int]] = []
    frame: FrameType | None = sys._current_frames().get(ident)
    try:
        while frame is not None:
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)  # as py-spy does, since 3.11
            frames.append((name, code.co_filename, frame.f_lineno or 0))
            frame = frame.f_back
    finally:
        # A frame that is held keeps the locals of its function alive, tensors among them.
        del frame
    if len(frames) > _MOST_FRAMES:  # a deep recursion: both of its ends tell something
        del frames[_MOST_FRAMES // 2 : -_MOST_FRAMES // 2]
    return tuple(reversed(frames))


def _frame_text(frame: tuple[str, str, int]) -> str:
    name, file, line = frame
    return f"{_one_line(name)} ({_one_line(file)}:{line})"


def _one_line(text: str) -> str:
    return " ".join(text.splitlines()) or "?"


def _set_fork_hooks() -> None:
    global _fork_hooks_set
    if _fork_hooks_set or not hasattr(os, "register_at_fork"):
        return
    _fork_hooks_set = True
    os.register_at_fork(before=_before_fork, after_in_parent=_resume_all, after_in_child=_forget)


def _before_fork() -> None:
    # A child would inherit whatever the thread was holding, and Python warns of forks beside
    # threads.
    for samples in list(_at_work):
        samples._pause(_FORK_WAIT_S)


def _resume_all() -> None:
    for samples in list(_at_work):
        with contextlib.suppress(RuntimeError):  # no thread to be had: these are all the samples
            samples._resume()


def _forget() -> None:
    _at_work.clear()
