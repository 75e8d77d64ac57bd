"""Instances of a program: long-lived processes that run a block of steps when they are told to."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ..errors import InputError
from ..schema.paced import InstanceFacts
from ..schema.steps import StepTable
from ..scripts.start import run_command
from ..scripts.target import Target
from ..store.frames import Kind, pack_count, read_frame, unpack_steps, write_frame

_LOOK_S = 0.1
_LEAVE_S = 2.0
"""How long an instance has to end by itself once it is told to."""
_LONGEST_WORDS = 200


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
    """

    target: Target
    place: Path
    environment: Mapping[str, str]
    log: Path
    warmup: int
    name: str


class LateError(Exception):
    """The time is up before what was waited for has come."""


class GoneError(Exception):
    """The program has ended by itself; says how, in words."""


class Instance:
    """One process, stopped (with its loader workers) whenever it has no block to run.

    Args:
        launch: what to start; it starts at once, and warms up.

    Attributes:
        facts: once it is warm.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.facts: InstanceFacts | None = None
        self._ended: str | None = None
        commands_in, self._commands = os.pipe()
        self._results, results_out = os.pipe()
        os.set_blocking(self._results, True)
        options = ["--paced", str(commands_in), str(results_out), "--warmup", str(launch.warmup)]
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
            LateError: the time is up; the instance is of no use any more.
            GoneError: the program ended before.
        """
        self._go_on()
        try:
            write_frame(self._commands, Kind.GO, pack_count(steps))
        except OSError:
            raise GoneError(self._words()) from None
        content = self._next(Kind.BLOCK, deadline)
        self._stop()
        return unpack_steps(content, self.launch.name)

    def end(self) -> None:
        """Have the program end, and see to it; see `end_all`."""
        end_all([self])

    def ask_to_leave(self) -> None:
        """Tell the program to end."""
        with suppress(OSError):
            self._go_on()
            write_frame(self._commands, Kind.LEAVE)

    def see_off(self, deadline: float) -> None:
        """Wait for its end, by force where it takes too long."""
        seen = os.WEXITED | os.WNOHANG | os.WNOWAIT
        with suppress(ChildProcessError):
            while os.waitid(os.P_PID, self._process.pid, seen) is None:
                if time.monotonic() > deadline:
                    break
                time.sleep(_LOOK_S / 10)
        # Its workers as well, while its number is still its own.
        self._signal(signal.SIGKILL)
        with suppress(OSError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._commands, self._results):
            with suppress(OSError):
                os.close(pipe)

    def _next(self, kind: Kind, deadline: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._results, selectors.EVENT_READ)
            while not selector.select(min(_LOOK_S, max(0.0, deadline - time.monotonic()))):
                if time.monotonic() >= deadline:
                    raise LateError
                if self._process.poll() is not None and not selector.select(0):
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
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LEAVE_S)
        code = self._process.poll()
        ended = self._ended or ("went on without its pipe" if code is None else f"exit code {code}")
        try:
            said = self.launch.log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            said = []
        if not said:
            return ended
        last = said[-1].replace(f"{self.launch.place}{os.sep}", "")[:_LONGEST_WORDS]
        # The last line of a traceback names the error as well.
        return last if ended.startswith("stopped by") else f"{ended}: {last}"

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


def end_all(instances: list[Instance]) -> None:
    """Have programs end, all at once."""
    for instance in instances:
        instance.ask_to_leave()
    deadline = time.monotonic() + _LEAVE_S
    for instance in instances:
        instance.see_off(deadline)
