"""Instances of a program: long-lived processes that run a block of steps when they are told to."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import InputError
from ..interruption import postponed
from ..schema.fix import FixFacts, FixOrder
from ..schema.paced import InstanceFacts
from ..schema.steps import StepTable
from ..scripts.fix_order import fix_options
from ..scripts.start import run_command
from ..scripts.target import Target
from ..store.frames import Kind, pack_count, read_frame, unpack_steps, write_frame

_LOOK_S = 0.1
_LEAVE_S = 2.0
"""How long an instance has to end by itself once it is told to."""
_LONGEST_WORDS = 200
_LAST_BYTES = 1 << 16
"""Of what an instance printed, where its last words are looked for."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How an instance is started.

    Attributes:
        target: the program.
        place: working directory.
        environment: all of its variables.
        log: file for what it prints.
        warmup: steps before its first block.
        name: of the version, for messages.
        fixes: what it applies; None for nothing at all.
    """

    target: Target
    place: Path
    environment: Mapping[str, str]
    log: Path
    warmup: int
    name: str
    fixes: FixOrder | None = None


class LateError(Exception):
    """The time is up before what was waited for has come."""


class GoneError(Exception):
    """The program has ended by itself; says how, in words."""


class Instance:
    """One process, stopped (with its loader workers) whenever it has no block to run.

    Args:
        launch: what to start, see `start`: whoever ends it must know of it before.

    Attributes:
        facts: once it is warm.
        is_over: whether there is no process to end: not yet, or not any more.
    """

    _process: "subprocess.Popen[bytes]"

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.facts: InstanceFacts | None = None
        self._ended: str | None = None
        self._owes = False
        self.is_over = True

    @postponed()
    def start(self) -> None:
        """Start it; it warms up."""
        launch = self.launch
        commands_in, self._commands = os.pipe()
        self._results, results_out = os.pipe()
        os.set_blocking(self._results, True)
        options = ["--paced", str(commands_in), str(results_out), "--warmup", str(launch.warmup)]
        options += fix_options(launch.fixes)
        try:
            with launch.log.open("wb") as log:
                self._process = subprocess.Popen(
                    run_command(options, launch.target),
                    cwd=launch.place,
                    env=dict(launch.environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(commands_in, results_out),
                )
        finally:
            os.close(commands_in)
            os.close(results_out)
        self.is_over = False

    def wait_until_warm(self, deadline: float) -> InstanceFacts:
        """Wait for the end of the warm-up; the instance is stopped then.

        Args:
            deadline: by `time.monotonic`.

        Raises:
            LateError: the time is up.
            GoneError: the program ended before.
        """
        self.facts = msgspec.json.decode(self._next(Kind.READY, deadline), type=InstanceFacts)
        self._stop()
        return self.facts

    def run_block(self, steps: int, deadline: float) -> tuple[StepTable, int]:
        """Run so many steps that count, and stop.

        Returns:
            The steps, those that do not count included, and the device's backlog in ns.

        Raises:
            LateError: the time is up; the block goes on, see `settle`.
            GoneError: the program ended before.
        """
        self.settle(deadline)
        self._go_on()
        try:
            write_frame(self._commands, Kind.GO, pack_count(steps))
        except OSError:
            raise GoneError(self._words()) from None
        self._owes = True
        content = self._next(Kind.BLOCK, deadline)
        self._owes = False
        self._stop()
        return unpack_steps(content, self.launch.name)

    def ask_fixes(self, deadline: float) -> FixFacts | None:
        """What became of its fixes by now; None where it was not given any.

        Raises:
            LateError: the time is up.
            GoneError: the program ended before.
        """
        self.settle(deadline)
        self._go_on()
        try:
            write_frame(self._commands, Kind.ASK)
        except OSError:
            raise GoneError(self._words()) from None
        content = self._next(Kind.FIXES, deadline)
        self._stop()
        return msgspec.json.decode(content, type=FixFacts | None)

    def settle(self, deadline: float) -> None:
        """Wait for the end of a block that came too late; what it measured is lost.

        Raises:
            LateError: the time is up again.
            GoneError: the program ended before.
        """
        if self._owes:
            self._next(Kind.BLOCK, deadline)
            self._owes = False
            self._stop()

    def end(self) -> None:
        """Have the program end, and see to it; see `end_all`."""
        end_all([self])

    def ask_to_leave(self) -> None:
        """Tell the program to end."""
        with suppress(OSError):
            self._go_on()
            write_frame(self._commands, Kind.LEAVE)

    def await_end(self, deadline: float) -> int | None:
        """Its exit code, negative for a signal, as soon as it has ended; None if the time is up.

        It stays a zombie: its number, which is that of its workers' group, is not free before.
        """
        seen = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while not self.is_over:
            found = os.waitid(os.P_PID, self._process.pid, seen)
            if found is not None:
                return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
            if time.monotonic() >= deadline:
                return None
            time.sleep(_LOOK_S / 10)
        return self._process.returncode

    def kill(self) -> None:
        """End what is left of it by force, its workers as well; more than once does no harm."""
        if self.is_over:
            return  # its number, and those of its pipes, may be another's by now
        self._signal(signal.SIGKILL)
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        self.is_over = True
        for pipe in (self._commands, self._results):
            os.close(pipe)

    def _next(self, kind: Kind, deadline: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._results, selectors.EVENT_READ)
            while not selector.select(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    raise LateError
                if self.await_end(0.0) is not None and not selector.select(0):
                    raise GoneError(self._words())
        frame = read_frame(self._results)
        if frame is None or frame[0] is Kind.ENDED:
            self._ended = None if frame is None else frame[1].decode("utf-8", "replace")
            raise GoneError(self._words())
        if frame[0] is not kind:
            raise InputError(f"{self.launch.name}: an instance sent {frame[0].name}: report this")
        return frame[1]

    def _words(self) -> str:
        """How the program ended, and the last thing that it said."""
        code = self.await_end(time.monotonic() + _LEAVE_S)
        ended = self._ended or ("went on without its pipe" if code is None else f"exit code {code}")
        said = self._printed()
        if not said:
            return ended
        last = said[-1].replace(f"{self.launch.place}{os.sep}", "")[:_LONGEST_WORDS]
        # The last line of a traceback names the error as well.
        return last if ended.startswith("stopped by") else f"{ended}: {last}"

    def _printed(self) -> list[str]:
        """The last lines of it: some programs print a lot."""
        try:
            with self.launch.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LAST_BYTES))
                return log.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return []

    def _stop(self) -> None:
        # The workers too: they would fill their queue meanwhile, and the next block live on that.
        self._signal(signal.SIGSTOP)

    def _go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            # It leads a group of its own from its first moments on.
            if os.getpgid(self._process.pid) == self._process.pid:
                os.killpg(self._process.pid, number)


def end_all(instances: Sequence[Instance]) -> None:
    """Have programs end, all at once; by force where they take too long, or someone else does."""
    left = [instance for instance in instances if not instance.is_over]
    try:
        for instance in left:
            instance.ask_to_leave()
        deadline = time.monotonic() + _LEAVE_S
        for instance in left:
            instance.await_end(deadline)
    finally:  # a second Ctrl-C means at once, and not that some of them stay
        for instance in left:
            instance.kill()
