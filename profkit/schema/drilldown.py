"""Where the time of one stage goes, as one traced pass saw it."""

from dataclasses import dataclass

from .stage import Stage


@dataclass(frozen=True, slots=True)
class Cost:
    """One operator, stack or line that a traced pass found costly.

    Attributes:
        name: operator name, innermost function, or source text of the line.
        source: `file:line`, or None where it has none.
        self_ns: without what it called; None where the probe counts samples.
        total_ns: with what it called; None likewise.
        count: calls, hits or samples.
        share: part of what this probe saw in the stage, 0 to 1; self time.
        context: the rest in words: callers for a stack, `worker` for a loader worker.
    """

    name: str
    source: str | None
    self_ns: int | None
    total_ns: int | None
    count: int
    share: float
    context: str | None = None


@dataclass(frozen=True, slots=True)
class Drilldown:
    """The costliest places of one stage as one probe saw them, costliest first.

    `gap` says why `costs` is empty; `note` what the reader must know to read it.
    """

    probe: str
    stage: Stage
    steps: int
    costs: tuple[Cost, ...]
    gap: str | None = None
    note: str | None = None
