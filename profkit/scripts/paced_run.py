"""One instance of a user's program, measured in blocks between which it stands still.

Whoever started it says through a pipe when it goes on; see `store.frames`.
"""

import os
import sys
import sysconfig
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

import msgspec

from ..probe.environment import read_environment, read_settings
from ..probe.import_watch import when_imported
from ..schema.fix import FixFacts, FixOrder
from ..schema.paced import InstanceFacts
from ..store.frames import Kind, pack_steps, read_frame, unpack_count, write_frame
from .as_main import run_as_main
from .ending import Ending
from .running import StopProgram
from .target import Target, check_target

if TYPE_CHECKING:
    from ..probe.fixes import AppliedFixes
    from ..probe.hooks import Hooks
    from ..probe.loop_clock import LoopClock
    from ..schema.steps import StepTable

_LONG_NS = 10**18


@dataclass(frozen=True, slots=True)
class PacedOrder:
    """An instance.

    Attributes:
        target: the program.
        commands: descriptor to read frames from.
        results: descriptor to write frames to.
        warmup: steps before the first block.
        fixes: what to apply; None for nothing at all.
    """

    target: Target
    commands: int
    results: int
    warmup: int
    fixes: FixOrder | None = None


def run_paced(order: PacedOrder) -> NoReturn:
    """Run a program block by block; it ends when it is told to, or by itself.

    Raises:
        InputError: there is no such program.
    """
    check_target(order.target)
    # What is stopped and ended together: the program and its loader workers.
    os.setpgid(0, 0)
    instance = _Instance(order)
    when_imported("torch", instance.begin)
    run_as_main(order.target, at_end=instance.end)


class _Instance:
    def __init__(self, order: PacedOrder) -> None:
        self._order = order
        self._environment = read_environment(ask_for_devices=False)
        self._clock: LoopClock
        self._hooks: Hooks
        self._fixes: AppliedFixes | None = None

    def begin(self, _: ModuleType) -> None:
        """Torch is there: put the hooks in place."""
        from ..probe.hooks import Hooks
        from ..probe.loop_clock import LoopClock
        from ..probe.pacer import Pacer

        # Never by time: it is handed on at the end of each block.
        self._clock = LoopClock(self._gather, period_ns=_LONG_NS, capacity=1 << 24)
        self._pacer = Pacer(self._clock, self._order.warmup, self._ready, self._done)
        self._clock.witness = self._pacer
        self._hooks = Hooks(self._clock)
        if self._order.fixes is not None:
            from ..probe.fixes import AppliedFixes

            self._fixes = AppliedFixes(self._order.fixes)
            self._fixes.install(self._hooks)  # below what observes
            self._hooks.number_of = self._fixes.number_of
        self._hooks.install()
        os.register_at_fork(after_in_child=self._clock.stop)

    def end(self, ending: Ending) -> None:
        """The program has ended by itself, or because it was told to."""
        try:
            write_frame(self._order.results, Kind.ENDED, ending.words.encode())
        except OSError:  # nobody waits for it any more
            return

    def _gather(self, steps: "StepTable", marks: object) -> None:
        self._pacer.gather(steps, marks)

    def _ready(self, step_ns: int) -> int:
        device = self._clock.device
        facts = InstanceFacts(
            environment=read_settings(
                self._environment, ask_for_devices=device not in (None, "cpu")
            ),
            device=device,
            loader=self._hooks.training_loader,
            step_ns=step_ns,
            modules=_own_modules(),
            fixes=self._applied(),
        )
        return self._ask(Kind.READY, msgspec.json.encode(facts))

    def _applied(self) -> FixFacts | None:
        if self._fixes is None:
            return None
        loader = self._hooks.training_loader
        return self._fixes.facts(None if loader is None else loader.number)

    def _done(self, steps: "StepTable", drain_ns: int) -> int:
        return self._ask(Kind.BLOCK, pack_steps(steps, drain_ns))

    def _ask(self, kind: Kind, content: bytes) -> int:
        try:
            write_frame(self._order.results, kind, content)
            frame = read_frame(self._order.commands)
            while frame is not None and frame[0] is Kind.ASK:
                facts = msgspec.json.encode(self._applied())
                write_frame(self._order.results, Kind.FIXES, facts)
                frame = read_frame(self._order.commands)
        except OSError:
            frame = None
        if frame is None or frame[0] is not Kind.GO:
            self._clock.stop()
            raise StopProgram(0)
        return unpack_count(frame[1])


def _own_modules() -> tuple[str, ...]:
    """Files of the loaded modules that belong to no installed package."""
    paths = sysconfig.get_paths()
    installed = tuple(
        os.path.join(os.path.realpath(paths[name]), "")
        for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )
    found = []
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and not os.path.realpath(file).startswith(installed):
            found.append(os.path.abspath(file))
    return tuple(sorted(found))
