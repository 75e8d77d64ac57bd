"""Applies fixes to a program that is about to run, without a line changed in it.

Each is put below the hooks that observe: what it does counts as part of the stage that it is in.
"""

from typing import Any

from ..schema.fix import FixFacts, FixOrder
from .fix_outcomes import FixOutcomes
from .loader_fixes import LoaderFixes
from .model_fixes import ModelFixes
from .optimizer_fixes import OptimizerFixes
from .process_fixes import ProcessFixes, flags_on
from .replacements import Replacements
from .sameness import Sameness


class AppliedFixes:
    """The fixes of one instance of a program.

    Args:
        order: what to apply.
    """

    def __init__(self, order: FixOrder) -> None:
        self._order = order
        self._outcomes = FixOutcomes(order.settings)
        self._same = Sameness(order.watched)
        self._loaders = LoaderFixes(order, self._outcomes)
        self._models = ModelFixes(order.settings, self._outcomes)
        self._optimizers = OptimizerFixes(order.settings, self._outcomes)
        self._process = ProcessFixes(order.settings, self._outcomes)

    def install(self, hooks: Replacements) -> None:
        """Put all of them in place; torch is imported, and the program did nothing yet."""
        for part in (self._same, self._loaders, self._models, self._optimizers, self._process):
            part.install(hooks)

    def number_of(self, loader: Any) -> int | None:
        """A number for where a loader was made."""
        return self._loaders.number_of(loader)

    @property
    def failures(self) -> dict[str, str]:
        """By the name of the knob: why it is not applied, by now."""
        self._process.look_again()
        return self._outcomes.failures

    def facts(self, number: int | None) -> FixFacts:
        """What became of them.

        Args:
            number: of the place where the loader that feeds the training was made.
        """
        return FixFacts(
            failures=self.failures,
            batches=tuple(self._same.batches),
            losses=tuple(self._same.losses),
            loader=self._loaders.site_of(number),
            notes=self._loaders.notes,
            once_s=self._loaders.once_s,
            structure=self._same.structure,
            already=tuple(name for name in flags_on() if name not in self._order.settings),
        )
