"""Stack samples that were taken beside the light pass."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SampleWindow:
    """One short stretch of a run in which stacks were sampled.

    Attributes:
        source: `py-spy` or `thread`.
        native_id: the training thread as the system numbers it.
        ident: the training thread as Python numbers it. Samplers print the one or the other.
        text: py-spy's raw format; may hold other threads too.
    """

    source: str
    native_id: int
    ident: int
    text: str
