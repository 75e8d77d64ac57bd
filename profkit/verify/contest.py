"""Holds two versions of a program against limits: measures, looks, judges."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..analyze.gate import (
    Limits,
    judge,
    mean_stage_ns,
    mean_step_ns,
    noise,
    overall,
    stage_changes,
    typical_step_ns,
    without_warm_up,
)
from ..errors import InputError
from ..schema.decision import Outcome
from ..schema.gate import BlockPair, GateFindings, Version
from ..schema.paced import InstanceFacts
from .duel import LOOKS, Duel, fight
from .instance import Instance, Launch


@dataclass(frozen=True, slots=True)
class Contender:
    """A version, and how each of its instances is started.

    Attributes:
        name: what reports call it.
        command: fit for a report.
        commit: None where none is known.
        launches: one an instance.
    """

    name: str
    command: str
    commit: str | None
    launches: tuple[Launch, ...]


def hold_contest(
    base: Contender,
    new: Contender,
    limits: Limits,
    *,
    began: float,
    deadline: float,
    starting: int,
    seed: int,
    show: Callable[[str, float], None],
    meet: Callable[[Contender, InstanceFacts], None] = lambda contender, facts: None,
    gaps: Sequence[str] = (),
) -> GateFindings:
    """Measure until it is clear whether the new version is within the limits, or the time is up.

    Args:
        base, new: with as many launches each.
        limits: see there.
        began, deadline: by `time.monotonic`.
        starting: how many instances may start at a time.
        seed: of the order of the blocks.
        show: told what happens, and the part of the measuring that is done.
        meet: told each instance once it is warm; may raise to call it off.
        gaps: sentences for the findings.

    Raises:
        InputError: a program ended too soon, or nothing could be measured in the time.
    """
    seen: list[InstanceFacts] = []

    def met(instances: Sequence[Instance]) -> None:
        for row, instance in enumerate(instances):
            assert instance.facts is not None  # it is warm
            seen.append(instance.facts)
            meet((base, new)[row % 2], instance.facts)

    def is_clear(duel: Duel) -> bool:
        kept = without_warm_up(duel.rounds)
        decisions = judge(kept, limits, len(LOOKS))
        return overall(decisions) is not Outcome.INCONCLUSIVE

    duel = fight(
        list(zip(base.launches, new.launches, strict=True)),
        deadline=deadline,
        starting=starting,
        seed=seed,
        is_clear=is_clear,
        show=show,
        met=met,
    )
    kept = without_warm_up(duel.rounds)
    if not kept:
        raise InputError(
            "the time was up before both versions had run two blocks: raise --max-time"
        )
    decisions = judge(kept, limits, len(LOOKS))
    facts = seen[1]
    return GateFindings(
        outcome=overall(decisions),
        decisions=tuple(sorted(decisions, key=lambda one: one.outcome is not Outcome.ABOVE)),
        base=_version(base, seen[0], [one.base for one in kept]),
        new=_version(new, facts, [one.new for one in kept]),
        changes=stage_changes(kept),
        noise=noise(duel.rounds, kept),
        environment=facts.environment,
        device=facts.device,
        looks=duel.looks,
        measured_s=duel.measured_s,
        wall_s=time.monotonic() - began,
        gaps=(*gaps, *_restarts(duel)),
        rounds=tuple(duel.rounds),
    )


def _restarts(duel: Duel) -> tuple[str, ...]:
    if not duel.restarts:
        return ()
    return (f"the program ended by itself {duel.restarts} times meanwhile and was started anew",)


def _version(contender: Contender, facts: InstanceFacts, blocks: Sequence[BlockPair]) -> Version:
    return Version(
        name=contender.name,
        command=contender.command,
        commit=contender.commit,
        instances=len(contender.launches),
        steps=sum(pair.steps for pair in blocks),
        step_ns=typical_step_ns(blocks),
        mean_step_ns=mean_step_ns(blocks),
        stage_ns=mean_stage_ns(blocks),
        loader=facts.loader,
    )
