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

from ..interruption import pass_on

LOADER = "loader"
"""Directory below the run directory."""
PRODUCED = "produced-{worker}.rows"
"""One for each number of a worker: most live for an epoch only."""
CONSUMED = "consumed.rows"
DETAILS = "details-{worker}.jsonl"
ITERATORS = "iterators.jsonl"
ENDED = "ended"
"""There once nothing more is to be recorded: workers may outlive the observation."""
MOST_BYTES = 256 << 20
"""Of one file: 2.5 million batches; later ones are not recorded."""
PERIOD_NS = 250_000_000
"""What is killed loses as much of its end, where somebody calls `tick`."""
_MOST_WAITING = 4_096


class Appender:
    """Gathers things, and appends them to a file now and then.

    Adding one is all that the timed code pays. A file that cannot be written is given up without
    a word: what is missing shows in reading. Several processes may append to one: what each
    writes at a time stays together.

    Args:
        path: in a directory that is there by then.
        pack: a thing as bytes.
        unit: bytes that each thing takes; 1 where that differs.
        now: monotonic clock in ns.
    """

    def __init__(
        self,
        path: str,
        pack: Callable[[Any], bytes],
        unit: int = 1,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._path = path
        self._pack = pack
        self._unit = unit
        self._now = now
        self._owner = os.getpid()
        self._file: int | None = None
        self._waiting: list[Any] = []
        self._due_ns = now() + PERIOD_NS
        self._written = 0
        self._given_up = False
        self._lock = threading.Lock()  # a worker's feeder thread writes as well as its end

    def append(self, thing: Any) -> None:
        """Add something."""
        self._waiting.append(thing)
        if len(self._waiting) >= _MOST_WAITING:
            self.flush()

    def tick(self, now_ns: int) -> bool:
        """Write what waits, if it is time for that; whether it was."""
        is_due = now_ns >= self._due_ns
        if is_due:
            self.flush()
        return is_due

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            # What another thread adds meanwhile stays behind these.
            count = len(self._waiting)
            content = b"".join(map(self._pack, self._waiting[:count]))
            del self._waiting[:count]
            self._due_ns = self._now() + PERIOD_NS
            if self._given_up or not content or os.getpid() != self._owner:
                return
            try:
                self._write(content)
            except OSError as error:
                pass_on(error)
                self._give_up()

    def close(self) -> None:
        """Write what waits; later things are dropped."""
        self.flush()
        with self._lock:
            self._give_up()

    def _write(self, content: bytes) -> None:
        if self._file is None:
            self._file = self._open(self._path)
        written = os.write(self._file, content)
        self._written += written
        # Behind half a row nothing could be read.
        if written < len(content) or self._written > MOST_BYTES:
            self._give_up()

    def _open(self, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        file = os.open(path, flags, 0o644)
        self._written = os.fstat(file).st_size
        # A process before this one may have been killed in the middle of writing.
        if self._written % self._unit and path == self._path:
            os.close(file)
            stem, end = os.path.splitext(path)
            return self._open(f"{stem}.{self._owner}{end}")
        return file

    def _give_up(self) -> None:
        self._given_up = True
        if self._file is not None and os.getpid() == self._owner:
            with suppress(OSError):
                os.close(self._file)
        self._file = None


def rows_file(path: str, width: int) -> Appender:
    """A file of rows of so many integers each."""
    row_format = struct.Struct(f"<{width}q")
    packed = row_format.pack

    def pack(row: Sequence[int]) -> bytes:
        return packed(*row)

    return Appender(path, pack, row_format.size)


def lines_file(path: str) -> Appender:
    """A file of JSON, a line for each thing."""
    return Appender(path, lambda content: json.dumps(content).encode() + b"\n")


def end_all(directory: str) -> None:
    """Tell those that still append to files of a run's loaders that it is over."""
    with suppress(OSError):
        os.close(os.open(os.path.join(directory, ENDED), os.O_WRONLY | os.O_CREAT, 0o644))


def is_over(directory: str) -> bool:
    """Whether `end_all` was called, or there is no such directory any more."""
    return os.path.exists(os.path.join(directory, ENDED)) or not os.path.isdir(directory)


def loader_directory(run: Path) -> Path:
    """Where the files of a run's loaders lie."""
    return run / LOADER
