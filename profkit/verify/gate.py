"""Carries out a check: makes the places, holds the contest there, and cleans up."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import InputError
from ..probe.command import shown_command
from ..probe.environment import usable_cores
from ..schema.gate import GateFindings
from ..schema.paced import InstanceFacts
from ..scripts.target import Target
from .contest import Contender, Terms, hold_contest
from .imports import foreign_modules
from .instance import Launch
from .leftovers import own_prefix
from .order import CheckOrder
from .places import Place, Places, VersionOrder, VersionPlaces, places
from .repository import OF_A_HOOK

RESERVE_S = 4.0
"""Of the time of a check, for ending what was started."""
WARMUP_STEPS = 10
_SEED = 1


def run_check(order: CheckOrder, show: Callable[[str, float], None]) -> GateFindings:
    """Measure the versions in turns until it is clear on which side of the limits they lie.

    Args:
        order: what to check.
        show: told what happens, and the part of the time that is over.

    Raises:
        InputError: a program or revision that is not there, that never trained, or that imported
            the user's own modules from where they must not come from.
        OutputError: git cannot make a worktree.
    """
    if not hasattr(os, "killpg"):
        raise InputError("profkit check stops groups of processes, which this system does not have")
    began = time.monotonic()
    versions = [VersionOrder(order.target)]
    if order.base is not None:
        # Both are of the working tree: the other program's name tells them apart.
        versions.insert(0, VersionOrder(order.base, name=order.base.name))
    elif order.base_ref is not None:
        versions.insert(0, VersionOrder(order.target, order.base_ref))
    show("making places", 0.0)
    with (
        places(versions, order.processes) as made,
        tempfile.TemporaryDirectory(prefix=own_prefix(), ignore_cleanup_errors=True) as logs,
    ):
        contenders = [
            _contender(order, version, one, Path(logs), number)
            for number, (version, one) in enumerate(zip(versions, made.versions, strict=True))
        ]
        return hold_contest(
            contenders[0] if order.has_base else None,
            contenders[-1],
            Terms(
                budget=order.limits,
                instances=order.processes,
                began=began,
                deadline=began + max(1.0, order.max_time_s - RESERVE_S),
                starting=usable_cores(),
                seed=_SEED,
            ),
            show=show,
            meet=lambda contender, facts: _refuse_foreign(contender, facts, made),
            gaps=made.gaps,
        )


def _contender(
    order: CheckOrder, version: VersionOrder, made: VersionPlaces, logs: Path, number: int
) -> Contender:
    unused = list(made.places)

    def launch(row: int) -> Launch:
        # One that is started anew must not find what its predecessor wrote.
        place = unused.pop(0) if unused else made.another()
        return _launch(order, place, logs / f"{number}-{row}", made.name)

    return Contender(made.name, _shown(version.target), made.commit, launch)


def _launch(order: CheckOrder, place: Place, log: Path, name: str) -> Launch:
    environment: Mapping[str, str] = {
        **{name: value for name, value in os.environ.items() if name not in OF_A_HOOK},
        **order.thread_variables,
        **place.environment,
    }
    return Launch(place.target, place.directory, environment, log, WARMUP_STEPS, name)


def _shown(target: Target) -> str:
    kind = ["-m"] if target.kind == "module" else []
    return shown_command([*kind, target.name, *target.arguments])


def _refuse_foreign(contender: Contender, facts: InstanceFacts, made: Places) -> None:
    """Call it off where a version runs code of the user's working tree in place of its own."""
    foreign = foreign_modules(facts.modules, made.repository, made.shared)
    if foreign:
        raise InputError(
            f"{contender.name} imported {foreign[0]} of the working tree in place of its own, so "
            "it would be compared with itself: install the package without -e, or import it by "
            "the directory that the program lies in"
        )
