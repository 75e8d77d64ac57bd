"""Stack samples of a loop that profkit runs itself, each with the stage that the step was in."""

from ..schema.stage import Stage
from .step_clock import StepClock
from .thread_samples import ThreadSamples

RATE_HZ = 200
_NO_FILE = "<stage>"

StackFrames = tuple[tuple[str, str, int], ...]
"""Function, file and line of each frame, outermost first."""


class LoopSamples(ThreadSamples):
    """Samples the thread that makes it, which also runs the loop.

    Args:
        clock: of the loop.
        length_s: how long at most.

    Raises:
        RuntimeError: the system gives no further thread.
    """

    def __init__(self, clock: StepClock, length_s: float) -> None:
        self._clock = clock
        super().__init__(RATE_HZ, length_s)

    def _see(self) -> StackFrames:
        # Nothing else of Python runs between the two, unless the interpreter switches just there.
        stage, stack = self._clock.where(), super()._see()
        return (("" if stage is None else stage.value, _NO_FILE, 0), *stack) if stack else ()

    @property
    def counts(self) -> dict[tuple[Stage | None, StackFrames], int]:
        """How often each stack was seen in each stage; None for between steps."""
        return {
            (Stage(stack[0][0]) if stack[0][0] else None, stack[1:]): count
            for stack, count in self._stacks.items()
        }
