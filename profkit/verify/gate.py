"""The measuring of a check. A stub: to be replaced at the merge."""

from collections.abc import Callable

from ..schema.gate import GateFindings
from .order import CheckOrder


def run_check(order: CheckOrder, show: Callable[[str, float], None]) -> GateFindings:
    """Measure the versions in turns until it is clear on which side of the limits they lie.

    Args:
        order: what to check.
        show: told what happens, and the part of the time that is over.
    """
    raise NotImplementedError
