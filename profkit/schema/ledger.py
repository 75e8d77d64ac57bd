"""What a test run measured and asserted: the ledger that the pytest plugin shows and saves."""

from dataclasses import dataclass
from enum import Enum

from .decision import Decision
from .estimate import Estimate
from .run import Environment

LEDGER_SCHEMA = 1
"""Version of `--profkit-json` and of saved measurements. History: 1, the first one (2026-11)."""


class Result(Enum):
    """How an assertion ended."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Blocks:
    """What each block of steps took, for comparisons with a later measurement.

    Attributes:
        steps: (b,) how many.
        step_ns: (b,) mean time of a step.
        stages_ns: (b,) mean time of each stage in a step; None where it was not observed.
    """

    steps: tuple[int, ...]
    step_ns: tuple[float, ...]
    stages_ns: dict[str, tuple[float, ...] | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement.

    Attributes:
        test: the test's id; empty outside of one.
        name: of the measurement; with a number where a test has several of that name.
        steps: that count.
        warmup: left out at the beginning.
        step_ns: mean.
        shares: of each stage; None where it was not observed.
        blocks: see there.
    """

    test: str
    name: str
    steps: int
    warmup: int
    step_ns: Estimate
    shares: dict[str, Estimate | None]
    blocks: Blocks


@dataclass(frozen=True, slots=True)
class Asserted:
    """One assertion.

    Attributes:
        test: the test's id; empty outside of one.
        claim: what was asserted, in words.
        result: how that ended.
        decisions: each limit, and what the data say of it; NaN where there is no value.
        steps: that it rests on, in each of the loops.
        blocks: of steps; groups of four for loops that took turns.
        looks: how often the data were looked at.
        measured_s: time spent on measuring further.
        line: the costliest line of the stage, in words; None where the assertion did not fail.
        notes: what else to know, in sentences.
    """

    test: str
    claim: str
    result: Result
    decisions: tuple[Decision, ...]
    steps: tuple[int, ...]
    blocks: int
    looks: int
    measured_s: float
    line: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """All of a test run; also what `--profkit-save` keeps, then without assertions."""

    schema: int
    environment: Environment
    measured: tuple[Measured, ...]
    asserted: tuple[Asserted, ...] = ()


@dataclass(frozen=True, slots=True)
class CostlyLine:
    """Where a stage spends its time.

    Attributes:
        source: `file:line` as a reader knows it.
        function: that it is in.
        text: of the line; empty where there is no source.
        caller: the line of the user's code that led there, likewise; None where there is none.
        samples: of the stage.
        share: part of them that were on this line.
    """

    source: str
    function: str
    text: str
    caller: str | None
    samples: int
    share: float
