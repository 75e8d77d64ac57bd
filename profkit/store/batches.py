"""Files about a run's loaders: rows of integers, and lines of JSON, one file a process.

Written in loader workers too, so with nothing heavier than the standard library.
"""

import json
import os
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

LOADER = "loader"
"""Directory below the run directory."""
PRODUCED = "produced-{loader}-{epoch}-{worker}.{pid}.rows"
CONSUMED = "consumed.rows"
DETAILS = "details-{loader}-{epoch}-{worker}.{pid}.jsonl"
ITERATORS = "iterators.jsonl"
MOST_BYTES = 256 << 20
"""Of one file: 2.5 million batches; later ones are not recorded."""
PERIOD_NS = 250_000_000
_NEVER_NS = 1 << 62
_MOST_WAITING = 1 << 16


class Appender:
    """Appends to one file, now and then; what is killed loses the last quarter of a second.

    A file that cannot be written is given up without a word: what is missing shows in reading.

    Args:
        path: in a directory that is there.
        period_ns: how long content may wait; None where somebody calls `flush` now and then.
        now: monotonic clock in ns.
    """

    def __init__(
        self,
        path: str,
        period_ns: int | None = PERIOD_NS,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._path = path
        self._now = now
        self._period_ns = _NEVER_NS if period_ns is None else period_ns
        self._owner = os.getpid()
        self._file: int | None = None
        self._waiting = bytearray()
        self._due_ns = now() + self._period_ns
        self._written = 0
        self._given_up = False
        self._lock = threading.Lock()  # a worker's feeder thread writes as well as its end

    def append(self, content: bytes) -> None:
        """Add something whole: a row, or a line."""
        with self._lock:
            if self._given_up:
                return
            self._waiting += content
            is_due = self._now() >= self._due_ns or len(self._waiting) > _MOST_WAITING
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, bytearray()
            self._due_ns = self._now() + self._period_ns
            if self._given_up or not waiting or os.getpid() != self._owner:
                return
            try:
                self._write(waiting)
            except OSError:
                self._give_up()

    def close(self) -> None:
        """Write what waits; later content is dropped."""
        self.flush()
        with self._lock:
            self._give_up()

    def _write(self, waiting: bytearray) -> None:
        if self._file is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
            self._file = os.open(self._path, flags, 0o644)
        # At once: what is written by halves is cut off when it is read.
        self._written += os.write(self._file, waiting)
        if self._written > MOST_BYTES:
            self._give_up()

    def _give_up(self) -> None:
        self._given_up = True
        if self._file is not None and os.getpid() == self._owner:
            with suppress(OSError):
                os.close(self._file)
        self._file = None


class Rows:
    """Rows of so many integers each.

    Args:
        path, period_ns: see `Appender`.
        width: integers in a row.
    """

    def __init__(self, path: str, width: int, period_ns: int | None = PERIOD_NS) -> None:
        self._appender = Appender(path, period_ns)
        self._pack = struct.Struct(f"<{width}q").pack
        self.flush = self._appender.flush
        self.close = self._appender.close

    def append(self, row: Sequence[int]) -> None:
        """Add a row."""
        self._appender.append(self._pack(*row))


class Lines:
    """Lines of JSON; see `Appender`."""

    def __init__(self, path: str, period_ns: int | None = PERIOD_NS) -> None:
        self._appender = Appender(path, period_ns)
        self.flush = self._appender.flush
        self.close = self._appender.close

    def append(self, content: dict[str, Any]) -> None:
        """Add a line."""
        self._appender.append(json.dumps(content).encode() + b"\n")


def loader_directory(run: Path) -> Path:
    """Where the files of a run's loaders lie."""
    return run / LOADER
