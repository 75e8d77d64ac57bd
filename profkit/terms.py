"""Under which terms loops are measured and judged just now; the pytest plugin sets them by test.

Imports nothing slow: a test run that measures nothing pays for no more than this.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real

STEPS = 100
WARMUP = 10
ROUNDS = 4
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds where a call does not say otherwise.

    Attributes:
        steps: that `measure` times.
        warmup: that it does before.
        rounds: how often an assertion looks at the data; before each further look they double.
        timeout_s: the longest that one measurement, or one assertion, goes on measuring.
        refuse: called before anything is timed; raises where that would be worthless.
        inconclusive: told the message of an assertion that the data cannot decide; None warns.
        note: told each measurement and each assertion's result.
    """

    steps: int = STEPS
    warmup: int = WARMUP
    rounds: int = ROUNDS
    timeout_s: float = TIMEOUT_S
    refuse: Callable[[], None] = lambda: None
    inconclusive: Callable[[str], None] | None = None
    note: Callable[[object], None] = lambda found: None


def is_count(value: object, least: int = 1) -> bool:
    """Whether so many steps, or looks, can be asked for."""
    return isinstance(value, Integral) and not isinstance(value, bool) and not value < least


def is_positive(value: object) -> bool:
    """Whether it is a number above 0, and finite: a time or a limit."""
    return isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) < math.inf


_current = Terms()


def current() -> Terms:
    """The terms that hold now."""
    return _current


@contextmanager
def under(terms: Terms) -> Iterator[None]:
    """These hold for the body."""
    global _current
    before, _current = _current, terms
    try:
        yield
    finally:
        _current = before
