"""Fixes of the process: threads, memory, and flags of torch's backends."""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..interruption import pass_on
from ..schema.fix import Knob
from .fix_outcomes import FixOutcomes
from .replacements import Function, Replacements

KEPT_BYTES, KEPT_MMAP_BYTES = 1 << 30, 32 << 20
"""Freed memory that a process keeps, and the largest piece that comes from there; glibc takes no
larger one."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""


@dataclass(frozen=True, slots=True)
class _Flag:
    """A flag of torch's backends, which the program may set as well.

    Attributes:
        name: for messages.
        is_on: reads it.
    """

    name: str
    is_on: Callable[[], bool]


class ProcessFixes:
    """The fixes that are applied once, before the program does anything.

    Args:
        settings: see `FixOrder`.
        outcomes: told what came of them.
    """

    def __init__(self, settings: dict[str, Any], outcomes: FixOutcomes) -> None:
        self._settings = {knob: settings[knob.value] for knob in _APPLY if knob.value in settings}
        self._outcomes = outcomes

    def install(self, hooks: Replacements) -> None:
        """Put them in place."""
        for knob, value in self._settings.items():
            try:
                _APPLY[knob](hooks, value)
            except Exception as error:  # then this fix is skipped, and says why
                pass_on(error)
                self._outcomes.fail(knob, f"{type(error).__name__}: {error}")
            else:
                self._outcomes.apply(knob)

    def look_again(self) -> None:
        """See whether the program has undone one of them since."""
        for knob in self._settings:
            if knob in _FLAGS and not _FLAGS[knob].is_on():
                self._outcomes.fail(knob, f"the program turns {_FLAGS[knob].name} off")


def flags_on() -> tuple[str, ...]:
    """The flags of torch's backends that are on by now, by the names of knobs."""
    return tuple(knob.value for knob, flag in _FLAGS.items() if flag.is_on())


def _set_threads(hooks: Replacements, count: int) -> None:
    torch.set_num_threads(count)
    owner = os.getpid()

    def keep(original: Function) -> Function:
        @functools.wraps(original)
        def set_num_threads(wanted: int) -> None:
            if os.getpid() != owner:  # a loader worker, which has one
                original(wanted)

        return set_num_threads

    hooks.replace(torch, "set_num_threads", keep)


def _keep_freed_memory(hooks: Replacements, _: Any) -> None:
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Have malloc keep what is freed: given back to the system, it comes back page by page.

    Raises:
        RuntimeError: the C library has no such option, or refuses it.
    """
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        raise RuntimeError("the C library has no mallopt")
    for option, size in ((_M_MMAP_THRESHOLD, KEPT_MMAP_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES)):
        if not set_option(option, size):
            raise RuntimeError("the C library refuses it")


def _set_cudnn(*_: Any) -> None:
    torch.backends.cudnn.benchmark = True


def _set_tf32(*_: Any) -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


def _benchmarks() -> bool:
    return bool(torch.backends.cudnn.benchmark)


def _multiplies_in_tf32() -> bool:
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # set through a newer interface as well
        backend: Any = torch.backends.cuda.matmul
        return bool(backend.fp32_precision == "tf32")


_APPLY: dict[Knob, Callable[[Replacements, Any], None]] = {
    Knob.THREADS: _set_threads,
    Knob.HEAP: _keep_freed_memory,
    Knob.CUDNN: _set_cudnn,
    Knob.TF32: _set_tf32,
}
_FLAGS = {
    Knob.CUDNN: _Flag("torch.backends.cudnn.benchmark", _benchmarks),
    Knob.TF32: _Flag("TF32", _multiplies_in_tf32),
}
