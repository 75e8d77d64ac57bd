"""Applies fixes to a program that is about to run, without a line changed in it.

Each is put below the hooks that observe: what it does counts as part of the stage that it is in.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from ..interruption import pass_on
from ..schema.fix import FixFacts, FixOrder, Knob
from .loader_fixes import LoaderFixes
from .model_fixes import ModelFixes, set_optimizer, set_to_none
from .process_fixes import keep_freed_memory, set_cudnn, set_tf32, set_threads
from .replacements import Replacements
from .sameness import Sameness

_AT_ONCE: dict[Knob, Callable[[Replacements, Any, dict[str, str]], None]] = {
    Knob.THREADS: set_threads,
    Knob.OPTIMIZER: set_optimizer,
    Knob.GRADIENTS: set_to_none,
    Knob.HEAP: keep_freed_memory,
    Knob.CUDNN: set_cudnn,
    Knob.TF32: set_tf32,
}


class AppliedFixes:
    """The fixes of one instance of a program.

    Args:
        order: what to apply.
    """

    def __init__(self, order: FixOrder) -> None:
        self._order = order
        self._failures: dict[str, str] = {}
        self._same = Sameness(order.watched)
        self._loaders = LoaderFixes(order, self._fail)
        self._models = ModelFixes(order.settings, self._fail)

    def install(self, hooks: Replacements) -> None:
        """Put all of them in place; torch is imported, and the program did nothing yet."""
        settings = self._order.settings
        self._same.install(hooks)
        self._loaders.install(hooks)
        if self._models.is_needed:
            hooks.replace(nn.Module, "__call__", self._models.call)
        for knob, apply in _AT_ONCE.items():
            if knob.value in settings:
                try:
                    apply(hooks, settings[knob.value], self._failures)
                except Exception as error:  # then this fix is skipped, and says why
                    pass_on(error)
                    self._fail(knob, f"{type(error).__name__}: {error}")

    def number_of(self, loader: Any) -> int | None:
        """A number for where a loader was made."""
        return self._loaders.number_of(loader)

    def facts(self, number: int | None) -> FixFacts:
        """What became of them.

        Args:
            number: of the place where the loader that feeds the training was made.
        """
        return FixFacts(
            failures=dict(self._failures),
            batches=tuple(self._same.batches),
            losses=tuple(self._same.losses),
            loader=self._loaders.site_of(number),
            notes=tuple(self._loaders.notes),
        )

    def _fail(self, knob: Knob, reason: str) -> None:
        self._failures.setdefault(knob.value, reason)
