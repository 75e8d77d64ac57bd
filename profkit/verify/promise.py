"""What fixes promise before they are tried: ground for the order of the trials."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..schema.fix import Fix, Knob
from ..schema.prediction import Change, Prediction, Question
from ..schema.stage import STAGES, Stage
from .catalogue import Ground

LEAST_GAIN = 1.02
"""A fix that cannot win more than that is not tried."""
_MODEL = (Stage.FORWARD, Stage.BACKWARD)
_CROWDED = 1.01
"""Threads that leave the workers their cores are tried before the same workers without that."""


@dataclass(frozen=True, slots=True)
class _Reach:
    """Which stages a fix can shorten, and by how much it usually does.

    Attributes:
        stages: those.
        usual: the share of them that goes, by experience: it decides the order of trials only.
    """

    stages: tuple[Stage, ...]
    usual: float


_REACH = {
    Knob.DATA: _Reach(STAGES, 0.9),
    Knob.WORKERS: _Reach(STAGES, 0.5),
    Knob.FETCH: _Reach((Stage.DATALOADER,), 0.5),
    Knob.PREFETCH: _Reach((Stage.DATALOADER,), 0.3),
    Knob.PERSISTENT: _Reach((Stage.DATALOADER,), 0.1),
    Knob.PIN: _Reach((Stage.TRANSFER,), 0.5),
    Knob.THREADS: _Reach((*_MODEL, Stage.OPTIMIZER, Stage.DATALOADER), 0.1),
    Knob.PRECISION: _Reach(_MODEL, 0.4),
    Knob.LAYOUT: _Reach(_MODEL, 0.2),
    Knob.COMPILER: _Reach((*_MODEL, Stage.OPTIMIZER), 0.15),
    Knob.OPTIMIZER: _Reach((Stage.OPTIMIZER,), 0.4),
    Knob.GRADIENTS: _Reach((Stage.OPTIMIZER,), 0.1),
    Knob.HEAP: _Reach((*_MODEL, Stage.OPTIMIZER, Stage.DATALOADER, Stage.OTHER), 0.1),
    Knob.CUDNN: _Reach(_MODEL, 0.1),
    Knob.TF32: _Reach(_MODEL, 0.3),
}
_LOADING = (Knob.WORKERS, Knob.PREFETCH, Knob.PERSISTENT, Knob.FETCH)
_MOST_BOUND = 100.0
"""Of a fix that can shorten all stages: nothing takes no time at all."""


def bound(ground: Ground, fix: Fix) -> float:
    """The most that a fix can win, by the stages that it can shorten (Amdahl).

    Args:
        ground: with the stages as they are.
        fix: what takes loader workers away can shorten all stages, since they take cores.
    """
    return _won(ground, _reach(ground, fix), 1.0)


def answer_for(ground: Ground, fix: Fix, answer: Prediction | None) -> Prediction:
    """What is known of a fix: the replay's answer, or that none is and the bound.

    Args:
        ground: the program as it is.
        fix: which.
        answer: of the replay of its recorded batches; None where that has none.
    """
    if answer is not None:
        return answer
    most = bound(ground, fix)
    return Prediction(
        Question(Change.TRY, fix.name),
        None,
        None,
        # Threads are no part of a stage that Amdahl could take away.
        most if most < _MOST_BOUND and fix.knob is not Knob.THREADS else None,
        "unknown: try; no recording holds its effect",
    )


def promise(ground: Ground, fix: Fix, answer: Prediction | None = None) -> float:
    """The speedup by which fixes are ranked: predicted, or what such a fix usually wins."""
    if answer is not None and answer.speedup is not None:
        return answer.speedup.value
    reach = _reach(ground, fix)
    return _won(ground, reach, reach.usual)


def why_not(ground: Ground, fix: Fix, answer: Prediction | None) -> str | None:
    """Why a fix is not worth a trial; None where it is."""
    if answer is not None and answer.speedup is not None:
        high = answer.speedup.high
        most = answer.speedup.value if high is None else high
        return None if most >= LEAST_GAIN else "it is predicted to win less than 2 %"
    most = bound(ground, fix)
    if answer is not None and answer.bound is not None:
        most = min(most, answer.bound)
    return None if most >= LEAST_GAIN else "it cannot win more than 2 % here"


def fits(fixes: Iterable[Fix], fix: Fix) -> bool:
    """Whether a fix does something beside others."""
    knobs = {one.knob for one in fixes}
    values = {one.knob: one.value for one in fixes}
    if fix.knob in knobs:
        return False
    if fix.knob is Knob.DATA:
        return not knobs & set(_LOADING)
    if fix.knob in _LOADING and Knob.DATA in knobs:
        return False  # no loader is left that could
    needs_workers = fix.knob in (Knob.PREFETCH, Knob.PERSISTENT)
    return not (needs_workers and values.get(Knob.WORKERS, 1) == 0)


def plans(
    ground: Ground, fixes: Sequence[Fix], answers: Mapping[str, Prediction]
) -> list[tuple[tuple[Fix, ...], float]]:
    """What is to be tried, the most promising first, and what it promises.

    Workers and intra-op threads want the same cores: where both want more than there are, they
    are tried together as well.

    Args:
        ground: the program as it is.
        fixes: the catalogue's.
        answers: to each, by its name.
    """
    found: list[tuple[tuple[Fix, ...], float]] = [
        ((fix,), promise(ground, fix, answers[fix.name])) for fix in fixes
    ]
    threads = {fix.value: fix for fix in fixes if fix.knob is Knob.THREADS}
    now = ground.facts.environment.intra_op_threads or ground.cores
    for fix in fixes:
        if fix.knob is not Knob.WORKERS or not fix.value or fix.value + now <= ground.cores:
            continue
        fewer = threads.get(max(1, ground.cores - fix.value))
        if fewer is not None and why_not(ground, fix, answers[fix.name]) is None:
            found.append(((fix, fewer), _CROWDED * promise(ground, fix, answers[fix.name])))
    return sorted(found, key=lambda one: -one[1])


def _reach(ground: Ground, fix: Fix) -> _Reach:
    reach = _REACH[fix.knob]
    if fix.knob in (Knob.DATA, Knob.WORKERS) and not ground.workers:
        return _Reach((Stage.DATALOADER,), reach.usual)  # nothing else takes its cores
    is_crowded = (ground.workers or 0) + (ground.facts.environment.intra_op_threads or 1) > (
        ground.cores
    )
    if fix.knob is Knob.THREADS and ground.workers and is_crowded:
        return _Reach(STAGES, 0.5)
    return reach


def _won(ground: Ground, reach: _Reach, share: float) -> float:
    taken = {stage: ground.stage_ns.get(stage) or 0.0 for stage in STAGES}
    whole = sum(taken.values())
    if not whole:
        return 1 / (1 - min(share, 1 - 1 / _MOST_BOUND))
    gone = share * sum(taken[stage] for stage in reach.stages)
    return whole / max(whole - gone, whole / _MOST_BOUND)
