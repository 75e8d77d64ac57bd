"""Which fixes came to something in an instance, and why the others did not."""

from collections.abc import Iterable

from ..schema.fix import Knob

NOTHING_SEEN = "nothing that it applies to was seen"


class FixOutcomes:
    """Each fix has failed until it was applied to something.

    Args:
        knobs: that are to be turned, by name.
    """

    def __init__(self, knobs: Iterable[str]) -> None:
        self._idle = dict.fromkeys(knobs, NOTHING_SEEN)
        self._applied: set[str] = set()
        self._failed: dict[str, str] = {}

    @property
    def failures(self) -> dict[str, str]:
        """By the name of the knob: why it came to nothing."""
        idle = {name: why for name, why in self._idle.items() if name not in self._applied}
        return {**idle, **self._failed}

    def apply(self, knob: Knob) -> None:
        """It was applied to something."""
        self._applied.add(knob.value)

    def pass_over(self, knob: Knob, reason: str) -> None:
        """It cannot do anything to one of the things that it is for; it may to others.

        Args:
            knob: which.
            reason: what to say if it does nothing to any of them.
        """
        if knob.value in self._idle:
            self._idle[knob.value] = reason

    def fail(self, knob: Knob, reason: str) -> None:
        """It is not, or no longer, applied to what it is for; the first reason stays."""
        self._failed.setdefault(knob.value, reason)

    def has_failed(self, knob: Knob) -> bool:
        """Whether it is given up."""
        return knob.value in self._failed
