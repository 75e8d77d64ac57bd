"""Holds a version of a program against a budget: measures, looks, judges."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..analyze.gate import (
    compared_rounds,
    judge,
    mean_stage_ns,
    mean_step_ns,
    noise,
    stage_changes,
    typical_step_ns,
    without_warm_up,
)
from ..errors import InputError
from ..schema.budget import Budget
from ..schema.decision import Outcome
from ..schema.gate import BlockPair, GateFindings, Version
from ..schema.paced import InstanceFacts
from .duel import LOOKS, Duel, ends_too_soon, fight
from .instance import Instance, Launch


@dataclass(frozen=True, slots=True)
class Contender:
    """A version, and how its instances are started.

    Attributes:
        name: what reports call it.
        command: fit for a report.
        commit: None where none is known.
        launch: how an instance is started, told its number; each time that it is started anew.
    """

    name: str
    command: str
    commit: str | None
    launch: Callable[[int], Launch]


@dataclass(frozen=True, slots=True)
class Terms:
    """How a contest goes.

    Attributes:
        budget: the limits.
        instances: of each version.
        began, deadline: by `time.monotonic`.
        starting: how many instances may start at a time.
        seed: of the order of the blocks.
    """

    budget: Budget
    instances: int
    began: float
    deadline: float
    starting: int
    seed: int


def hold_contest(
    base: Contender | None,
    new: Contender,
    terms: Terms,
    *,
    show: Callable[[str, float], None],
    meet: Callable[[Contender, InstanceFacts], None] = lambda contender, facts: None,
    gaps: Sequence[str] = (),
) -> GateFindings:
    """Measure until it is clear whether a version is within its limits, or the time is up.

    Args:
        base: None where no limit needs one.
        new: the version that is judged.
        terms: see there.
        show: told what happens, and the part of the measuring that is done.
        meet: told each instance once it is warm; may raise to call it off.
        gaps: sentences for the findings.

    Raises:
        InputError: a program ended too soon, or nothing could be measured in the time.
    """
    contenders = (new,) if base is None else (base, new)
    count = len(contenders)
    seen: list[InstanceFacts] = []

    def launch(row: int) -> Launch:
        return contenders[row % count].launch(row // count)

    def met(instances: Sequence[Instance]) -> None:
        for row, instance in enumerate(instances):
            assert instance.facts is not None  # it is warm
            seen.append(instance.facts)
            meet(contenders[row % count], instance.facts)

    def is_clear(duel: Duel) -> bool:
        judgement = judge(without_warm_up(duel.rounds), terms.budget, len(LOOKS))
        return judgement.outcome is not Outcome.INCONCLUSIVE

    duel = fight(
        launch,
        count * terms.instances,
        count,
        deadline=terms.deadline,
        starting=terms.starting,
        seed=terms.seed,
        is_clear=is_clear,
        show=show,
        met=met,
    )
    kept = without_warm_up(duel.rounds)
    if not kept and duel.restarts:
        raise ends_too_soon(duel)
    if not kept:
        raise InputError("the time was up before all versions had run two blocks: raise --max-time")
    judgement = judge(kept, terms.budget, len(LOOKS))
    compared = compared_rounds(kept)
    facts = seen[count - 1]
    return GateFindings(
        outcome=judgement.outcome,
        decisions=tuple(sorted(judgement.decisions, key=lambda one: one.outcome != Outcome.ABOVE)),
        base=None if base is None else _version(base, terms, seen[0], [o.base for o in compared]),
        new=_version(new, terms, facts, [one.new for one in kept]),
        changes=stage_changes(compared),
        noise=noise(duel.rounds, kept),
        environment=facts.environment,
        device=facts.device,
        looks=duel.looks,
        measured_s=duel.measured_s,
        wall_s=time.monotonic() - terms.began,
        gaps=(*gaps, *judgement.gaps, *_restarts(duel)),
        rounds=tuple(duel.rounds),
    )


def _restarts(duel: Duel) -> tuple[str, ...]:
    if not duel.restarts:
        return ()
    times = "once" if duel.restarts == 1 else f"{duel.restarts} times"
    return (
        f"the program ended by itself {times} meanwhile and was started anew, which took time: "
        "with more epochs more of it is left to measure",
    )


def _version(
    contender: Contender, terms: Terms, facts: InstanceFacts, blocks: Sequence[BlockPair]
) -> Version:
    return Version(
        name=contender.name,
        command=contender.command,
        commit=contender.commit,
        instances=terms.instances,
        steps=sum(pair.steps for pair in blocks),
        step_ns=typical_step_ns(blocks),
        mean_step_ns=mean_step_ns(blocks),
        stage_ns=mean_stage_ns(blocks),
        loader=facts.loader,
    )
