"""What a training step may cost: the limits of a gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from .stage import Stage


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; what has none is not judged.

    Attributes:
        shares: of the step's time, 0 to 1, for each stage.
        step: of the typical step, new over base.
        throughput: of the mean step, rare slow ones included, new over base.
        stages: of the time in a stage, new over base.
    """

    shares: Mapping[Stage, float] = field(default_factory=dict)
    step: float | None = None
    throughput: float | None = None
    stages: Mapping[Stage, float] = field(default_factory=dict)

    @property
    def needs_base(self) -> bool:
        """Whether a limit is a ratio to another version."""
        return self.step is not None or self.throughput is not None or bool(self.stages)

    @property
    def is_empty(self) -> bool:
        """Whether there is no limit at all."""
        return not self.shares and not self.needs_base
