"""Ways to spend a known time: a processor that spins, a thread that sleeps, a disk that works."""

import os
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

KINDS = ("spin", "sleep", "io")
PORTION_NS = 250_000
"""Least cost that is paid at once: a sleep takes some 60 µs more than asked."""
_BLOCK = bytes(16_384)
_READ_BYTES = 4 << 20

now = time.perf_counter_ns


class Cost:
    """One kind of cost; `pay(ns)` takes about so long and returns how long it took, in ns.

    Args:
        kind: `spin` (busy), `sleep`, `io`: disk accesses until the time is over.
        reads: whether I/O reads past the page cache; else it writes and syncs.
        scratch: directory on the disk that is used.
    """

    def __init__(self, kind: str, *, reads: bool, scratch: Path) -> None:
        self._file: IO[bytes] | None = None
        self._act = {"spin": _spin, "sleep": _sleep, "io": self._read if reads else self._write}[
            kind
        ]
        if kind == "io":
            self._file = TemporaryFile(dir=scratch)  # noqa: SIM115, open as long as the program
            self._file.write(os.urandom(_READ_BYTES))
            self._file.flush()
            os.fsync(self._file.fileno())

    def pay(self, ns: int) -> int:
        began = now()
        self._act(began + ns)
        return now() - began

    def _write(self, end: int) -> None:
        assert self._file is not None  # made for I/O
        while True:
            os.pwrite(self._file.fileno(), _BLOCK, 0)
            os.fsync(self._file.fileno())
            if now() >= end:
                return

    def _read(self, end: int) -> None:
        assert self._file is not None  # made for I/O
        number, at = self._file.fileno(), 0
        while True:
            os.posix_fadvise(number, at, len(_BLOCK), os.POSIX_FADV_DONTNEED)
            os.pread(number, len(_BLOCK), at)
            at = (at + len(_BLOCK)) % _READ_BYTES
            if now() >= end:
                return


def _spin(end: int) -> None:
    while now() < end:
        pass


def _sleep(end: int) -> None:
    time.sleep(max(0, end - now()) / 1e9)
