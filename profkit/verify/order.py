"""What is to be checked."""

from dataclasses import dataclass, replace

from ..errors import InputError
from ..schema.budget import Budget
from ..scripts.target import Target

MAX_REGRESSION = 0.05
"""Where there is a base, and nothing says how much longer than its step the new one may be."""
THROUGHPUT_SLACK = 2.0
"""How many times that much the mean step may be longer: rare slow steps make it noisier."""
_THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckOrder:
    """A program to hold against limits.

    Attributes:
        target: the program as it is in the working tree.
        limits: what is judged.
        base: the program that it is compared with, if that is another one.
        base_ref: the revision that it is compared with; with neither there is no base.
        max_time_s: for all of the check.
        processes: instances of each version.
        threads: intra-op threads of each instance.
    """

    target: Target
    limits: Budget
    base: Target | None = None
    base_ref: str | None = None
    max_time_s: float = 60.0
    processes: int = 3
    threads: int = 1

    @property
    def has_base(self) -> bool:
        """Whether there is something to compare with."""
        return self.base is not None or self.base_ref is not None

    @property
    def thread_variables(self) -> dict[str, str]:
        """Variables that give a process its intra-op threads, whichever library makes them."""
        return dict.fromkeys(_THREADS, str(self.threads))


def limits_for(budget: Budget | None, max_regression: float | None, *, has_base: bool) -> Budget:
    """The limits of a check, from what was asked for.

    Args:
        budget: of a file.
        max_regression: how much longer than the base's the step may be: 0.05 for 5 %.
        has_base: whether there is something to compare with.

    Raises:
        InputError: nothing to judge, a limit that needs a base, or two for the same.
    """
    if not has_base:
        if max_regression is not None:
            raise InputError("--max-regression needs something to compare with: add --base-ref")
        if budget is None:
            raise InputError("nothing to check against: give --base-ref, --base or --budget")
        if budget.needs_base:
            raise InputError(
                "the budget limits ratios, which need something to compare with: add --base-ref, "
                "or remove [ratio]"
            )
        return budget
    limits = budget or Budget()
    if max_regression is None:
        if limits.needs_base:
            return limits
        max_regression = MAX_REGRESSION
    if limits.step is not None:
        raise InputError(
            "--max-regression and the budget's [ratio] step limit the same: give one of them"
        )
    if limits.throughput is None:
        limits = replace(limits, throughput=1 + THROUGHPUT_SLACK * max_regression)
    return replace(limits, step=1 + max_regression)
