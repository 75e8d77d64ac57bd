"""Low-rate stack samples in the light pass: in a few short windows, so that they cost little.

A window is long enough to name what is costly, and few of them fit into any run: they come at
geometrically growing times. The steps that overlap one are left out of the times.
"""

import os
import time
from collections.abc import Callable
from math import ceil
from pathlib import Path
from threading import get_ident, get_native_id

from ..errors import ProbeError
from ..interruption import pass_on
from ..schema.run import ProbeFacts
from ..store.windows import SAMPLES, window_name
from .py_spy import PySpy
from .thread_samples import ThreadSamples

PY_SPY, THREAD = "py-spy", "thread"

FIRST_TIMES_S = (2, 15, 90)
"""When the first windows are due, after the first step: past its warm-up, and soon enough for a
run of half a minute to have two."""
GROWTH = 6
"""Each later window is due at so many times the time of the one before: five within an hour."""
REST = 3
"""A window is followed by at least so many times its length without one."""
LENGTH_S = 2
"""At 50 samples a second a place that holds 5 % of the time is seen about five times."""
LONGEST_S = 30
"""Where steps are longer than a second a window spans two of them, up to so long."""
RATE_HZ = 50
START_LIMIT_S = 10.0
"""Longest that py-spy may take beyond its window: it starts in 0.1 to 2 s here."""
STOP_LIMIT_S = 1.0

_S = 1_000_000_000


class SampleWindows:
    """Takes the windows of one run; told between steps how time goes by.

    The samples come from py-spy, which looks from outside, or from a thread of this process where
    py-spy is missing or may not attach. Nothing that goes wrong raises: it becomes a gap. In a
    forked child nothing happens.

    Args:
        directory: the run directory.
        now: monotonic clock in ns; tests give a fake one.
        executable: py-spy to use; None finds the one installed beside this interpreter.

    Attributes:
        source: `py-spy` or `thread`: who took the latest window; None before the first one.
        count: windows that were finished and gave samples.
        gap: in one line what did not work, else None; also where the thread stepped in.
        disturbed_ns: how long windows were open.
    """

    def __init__(
        self,
        directory: Path,
        now: Callable[[], int] = time.perf_counter_ns,
        *,
        executable: str | None = None,
    ) -> None:
        try:
            self._directory = directory.absolute() / SAMPLES  # the script may go elsewhere
        except OSError:
            self._directory = directory / SAMPLES
        self._now = now
        self._executable = executable
        self._pid = os.getpid()
        self._is_over = False
        self._first_ns: int | None = None
        self._ticked_ns = 0
        self._intervals_ns: list[int] = []
        self._due_ns = 0
        self._number = 0
        self._began_ns = 0
        self._length_s = LENGTH_S
        self._spy: PySpy | None = None
        self._thread: ThreadSamples | None = None
        self._out = self._directory
        self.source: str | None = None
        self.count = 0
        self.gap: str | None = None
        self.disturbed_ns = 0

    def tick(self) -> bool:
        """Begin a window if one is due, or look after the one that is open; never waits for it.

        To be called between steps, in the thread that trains, about twice a second.

        Returns:
            Whether the steps from now on are disturbed.
        """
        if self._is_over or os.getpid() != self._pid:
            return False
        try:
            now = self._now()
            self._note_pace(now)
            if self._is_open:
                self._look_after(now)
            elif now >= self._due_ns:
                self._begin(now)
        except Exception as error:  # sampling must never break the training
            pass_on(error)
            self._give_up(error)
        return self._is_open

    def stop(self) -> None:
        """End the window that is open, if any, and begin no more; takes a second at most."""
        if self._is_over or os.getpid() != self._pid:
            return
        self._is_over = True
        try:
            if self._spy is not None:
                # What ended by itself may have failed; what is asked to end while it starts has
                # not: the run was too short for it.
                asked = not self._spy.has_ended
                self._spy.stop(STOP_LIMIT_S)
                failure = self._spy.failure
                self._spy.close()
                self._spy = None
                if failure is None:
                    self._finish(self._now())
                elif not asked:
                    self._state(failure)
            if self._thread is not None:
                self._end_thread(self._now())
        except Exception as error:  # likewise
            pass_on(error)
            self._give_up(error)

    def facts(self, steps: int) -> ProbeFacts:
        """What the manifest says of it.

        Args:
            steps: steps that were left out because of the windows.

        Returns:
            With a gap only where there is no sample at all; otherwise the `gap` of this object
            is to be stated by itself.
        """
        if self.count == 0:
            return ProbeFacts(SAMPLES, steps, gap=self.gap or "the run was too short for a sample")
        detail = (
            f"{self.count} windows by {self.source}, {RATE_HZ} samples a second; wall_ns: theirs"
        )
        return ProbeFacts(SAMPLES, steps, wall_ns=self.disturbed_ns, detail=detail)

    @property
    def _is_open(self) -> bool:
        return self._spy is not None or self._thread is not None

    def _note_pace(self, now: int) -> None:
        if self._first_ns is None:
            self._first_ns = now
            self._due_ns = self._scheduled(now)
        else:
            self._intervals_ns = [*self._intervals_ns[-1:], now - self._ticked_ns]
        self._ticked_ns = now

    def _scheduled(self, after_ns: int) -> int:
        """The next moment by the plan. What was missed (an evaluation, a pause) is not caught up:
        windows would follow one another.
        """
        assert self._first_ns is not None  # set by the first tick
        times, at_s = list(FIRST_TIMES_S), 0
        while True:
            at_s = times.pop(0) if times else at_s * GROWTH
            if self._first_ns + at_s * _S > after_ns:
                return self._first_ns + at_s * _S

    def _begin(self, now: int) -> None:
        self._directory.mkdir(exist_ok=True)  # not its parents: a run that was removed stays so
        # Ticks come between steps. The shorter of two intervals: one may hold an evaluation.
        step_s = min(self._intervals_ns, default=0) / _S
        self._length_s = min(LONGEST_S, max(LENGTH_S, ceil(2 * step_s)))
        self._began_ns = now
        if self.source == THREAD:
            self._begin_thread()
            return
        self._out = self._path(PY_SPY)
        try:
            self._spy = PySpy(
                self._out, RATE_HZ, self._length_s, self._executable, subprocesses=False
            )
            self.source = PY_SPY
        except ProbeError as error:
            pass_on(error)
            self._fall_back(str(error))

    def _path(self, source: str) -> Path:
        # The name tells the thread, so that a run that is killed needs nothing else to be read.
        name = window_name(self._number, source, get_native_id(), get_ident())
        return self._directory / name

    def _look_after(self, now: int) -> None:
        if self._thread is not None:
            if self._thread.has_ended:
                self._end_thread(now)
            return
        spy = self._spy
        assert spy is not None  # a window is open
        if spy.has_ended:
            failure = spy.failure
        elif now > self._began_ns + int((self._length_s + START_LIMIT_S) * _S):
            spy.stop(0.0)
            failure = f"py-spy had no samples after {self._length_s + START_LIMIT_S:g} s"
        else:
            return
        spy.close()
        self._spy = None
        if failure is None:
            self._finish(now)
        else:
            self._fall_back(failure)

    def _fall_back(self, reason: str) -> None:
        self._state(f"{reason}; a thread of the process took the stack samples instead")
        self._begin_thread()

    def _begin_thread(self) -> None:
        self.source = THREAD
        self._out = self._path(THREAD)
        self._thread = ThreadSamples(RATE_HZ, self._length_s)

    def _end_thread(self, now: int) -> None:
        thread, self._thread = self._thread, None
        assert thread is not None  # only called where there is one
        thread.stop(STOP_LIMIT_S)
        thread.write(self._out)
        self._finish(now)

    def _finish(self, now: int) -> None:
        self._number += 1
        self.count += self._out.exists()
        self.disturbed_ns += now - self._began_ns
        self._due_ns = self._scheduled(now + REST * self._length_s * _S)

    def _state(self, gap: str) -> None:
        self.gap = gap if self.gap is None else f"{self.gap}; {gap}"

    def _give_up(self, error: Exception) -> None:
        self._is_over = True
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        self._state(f"stack samples ended after {self.count} windows ({reason})")
        spy, self._spy = self._spy, None
        thread, self._thread = self._thread, None
        try:
            if spy is not None:
                spy.stop(0.0)
                spy.close()
            if thread is not None:
                thread.stop(STOP_LIMIT_S)
        except Exception as failed:
            pass_on(failed)
            self._state(f"and could not be stopped ({type(failed).__name__})")
