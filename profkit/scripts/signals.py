"""Where the program was when a signal ended it: written by the signal itself, read for a report."""

import faulthandler
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from ..analyze.places import Origin, origin, short_place
from ..store.death_notes import DEATH_NOTES
from .ending import plain

_FRAME = re.compile(r'  File "(.*)", line (\d+) in .*')
_MOST_BYTES = 1 << 16


class DeathNote:
    """For each signal that ends the process by itself, a file that then gets the stack.

    Nothing else changes: the signal kills as before, wherever the program is, and Python still
    reports the default disposition. A signal that is ignored or has a handler is left alone, and
    a handler that the program installs later replaces this. Forked children have no part in it:
    loader workers are ended by SIGTERM. Where the system has no such signals or a file cannot be
    made, there is nothing.

    Args:
        directory: the run directory.
    """

    def __init__(self, directory: Path) -> None:
        self._process = os.getpid()
        self._open: dict[signal.Signals, tuple[int, Path]] = {}
        if not hasattr(faulthandler, "register"):
            return
        for name, file in DEATH_NOTES.items():
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) is not signal.SIG_DFL:
                continue
            with suppress(OSError, RuntimeError):
                self._register(number, (directory / file).absolute())
        if self._open:
            os.register_at_fork(after_in_child=self._unregister)

    def _register(self, number: signal.Signals, path: Path) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self._open[number] = (descriptor, path)
        faulthandler.register(number, file=descriptor, all_threads=False, chain=True)

    def _unregister(self) -> None:
        for number in self._open:
            # Where the program has set a handler since, this would take it away.
            if signal.getsignal(number) is signal.SIG_DFL:
                faulthandler.unregister(number)

    def forget(self) -> None:
        """The run ended otherwise: let the signals alone and remove the empty files."""
        if os.getpid() != self._process:
            return
        self._unregister()
        for descriptor, path in self._open.values():
            with suppress(OSError):
                # The program may have closed it, and have another file under its number.
                mine = os.path.samestat(os.fstat(descriptor), os.stat(path))
                if mine and not os.fstat(descriptor).st_size:
                    os.unlink(path)
                if mine:
                    os.close(descriptor)
        self._open.clear()


def note_death(directory: Path) -> DeathNote:
    """Have SIGTERM and SIGHUP leave a note in a run directory when they end this process.

    Returns:
        What is told when the run ends in another way.
    """
    return DeathNote(directory)


def read_death(directory: Path, root: str | None = None) -> str | None:
    """Which signal ended a run and where, such as `terminated by SIGTERM in train.py:41`.

    Args:
        directory: the run directory.
        root: directory of the project; places below it are named relative to it.

    Returns:
        One printable line that names the innermost line of the user's own code; None where no
        note was left.
    """
    for name, file in DEATH_NOTES.items():
        try:
            with (directory / file).open("rb") as note:
                text = note.read(_MOST_BYTES).decode("ascii", "replace")
        except OSError:
            continue
        if text.strip():
            place = _place(text, root)
            return f"terminated by {name}" + (f" in {place}" if place else "")
    return None


def _place(stack: str, root: str | None) -> str | None:
    frames = [
        (found[1], int(found[2][:9]))
        for found in map(_FRAME.fullmatch, stack.splitlines())
        if found
    ]
    own = [frame for frame in frames if origin(frame[0]) is Origin.PROJECT]
    for file, line in own or frames:
        return plain(short_place(file, line, root))
    return None
