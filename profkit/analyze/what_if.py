"""Predicts from a recorded run what a step would take after a change.

The recorded batches are replayed with the change in them, in stretches drawn again and again; see
`loader_model`. What no recording holds is not guessed: it gets a bound, and a reason.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ..schema.estimate import Estimate
from ..schema.prediction import Change, Prediction, Predictions, Question
from ..schema.stage import STAGES, Stage
from .course import Course
from .loader_model import Batches, Times, replay, settled
from .statistics import CONFIDENCE, independent_part, mean_of_blocks, split_evenly

DRAWS = 200
"""Sequences that are drawn for an interval; its ends are quantiles of a normal fit."""
MOST_REPLAYED = 1_000
"""Batches in each of them."""
STRETCH_S = 0.5
"""Length of the stretches that they are made of: what slows a machine down lasts about as long."""
LEAST_BATCHES = 20
MODEL_ERROR = 0.03
"""What the replay itself is off by, as a standard deviation of the predicted over the measured
step. Source: reports/what-if.md."""
FIXES = {
    "bf16 autocast": (Stage.FORWARD, Stage.BACKWARD),
    "torch.compile": (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER),
    "channels_last": (Stage.FORWARD, Stage.BACKWARD),
    "fused or foreach optimizer": (Stage.OPTIMIZER,),
}
"""Fixes whose effect no recording holds, and the stages that they can shorten."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the change runs on.

    Attributes:
        cores: that the program may use.
        threads: intra-op ones; None where that is not known.
    """

    cores: int
    threads: int | None


class Refusal(Exception):  # noqa: N818  # no error: an answer
    """The recording cannot tell.

    Args:
        reason: in words.
        bound: the most that the change can give, as a speedup.
    """

    def __init__(self, reason: str, bound: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.bound = bound


@dataclass(frozen=True, slots=True, eq=False)
class _Ground:
    """What answers start from."""

    course: Course
    machine: Machine
    probes: dict[int, Course]


@dataclass(frozen=True, slots=True, eq=False)
class _Changed:
    """A loop after the change; of `source`, where its batches are not the run's own."""

    batches: Batches
    workers: int
    prefetch: int
    pins: bool
    assumes: str | None = None
    source: Course | None = None


def predict(
    name: str,
    course: Course,
    machine: Machine,
    questions: Sequence[Question],
    probes: Sequence[Course] = (),
) -> Predictions:
    """Answers about one run.

    Args:
        name: of the run.
        course: its batches, at least `LEAST_BATCHES`.
        machine: where the change runs.
        questions: in any order.
        probes: short runs of the same program with other numbers of workers: what they do to each
            other and to the model can only be measured.
    """
    drawn = _draw(course)
    base = _base(course, drawn)
    measured = _measured(course)
    ground = _Ground(
        course, machine, {one.workers: one for one in probes if one.workers is not None}
    )
    answers = tuple(_answer(ground, drawn, base, measured, one) for one in questions)
    return Predictions(
        run=name,
        step_ns=measured,
        replayed_ns=float(base.mean()),
        batches=len(course),
        answers=answers,
    )


def _answer(
    ground: _Ground, drawn: np.ndarray, base: Times, measured: Estimate, question: Question
) -> Prediction:
    try:
        changed = _CHANGES[question.change](ground, question)
    except Refusal as refused:
        return Prediction(question, None, None, refused.bound, refused.reason)
    after = _replayed(changed, drawn if changed.source is None else _draw(changed.source))
    # The same stretches before and after: what they share cancels.
    ratios = np.log(after / base)
    center = float(ratios.mean())
    error = math.hypot(float(ratios.std()), MODEL_ERROR * (abs(center) > 0))
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * error
    spread = _log_reach(measured)
    step = measured.value * math.exp(center)
    wide = math.hypot(reach, spread)
    count = measured.blocks
    return Prediction(
        question=question,
        step_ns=Estimate(step, step * math.exp(-wide), step * math.exp(wide), count),
        speedup=Estimate(
            math.exp(-center), math.exp(-center - reach), math.exp(-center + reach), count
        ),
        bound=None,
        assumes=changed.assumes,
    )


def _log_reach(measured: Estimate) -> float:
    if measured.low is None or measured.high is None or measured.low <= 0:
        return 0.0
    return math.log(measured.high / measured.low) / 2


def _measured(course: Course) -> Estimate:
    cut = split_evenly(len(course), min(20, len(course)))
    totals = np.array([course.steps_ns[low:high].sum() for low, high in cut])
    counts = np.array([high - low for low, high in cut], np.float64)
    return mean_of_blocks(totals, counts, beyond=True)


def _draw(course: Course) -> np.ndarray:
    """(DRAWS, m) rows: sequences made of neighbouring batches, drawn again with replacement."""
    count = len(course)
    length = max(1, min(count // 4, round(STRETCH_S * 1e9 / max(1.0, course.steps_ns.mean()))))
    # Where neighbours resemble each other for longer, longer stretches keep that.
    part = independent_part(course.steps_ns) if count >= 3 else 1.0
    length = max(length, min(count // 4 or 1, round(1 / part)))
    wanted = min(MOST_REPLAYED, max(count, 2 * length))
    pieces = -(-wanted // length)
    draw = np.random.default_rng(0)
    starts = draw.integers(0, max(1, count - length + 1), size=(DRAWS, pieces))
    rows = (starts[:, :, None] + np.arange(length)).reshape(DRAWS, -1)
    return np.minimum(rows, count - 1)


def _base(course: Course, drawn: np.ndarray) -> Times:
    workers = course.workers
    if workers is None:
        means: Times = course.steps_ns[drawn].mean(axis=1)
        return means
    return _replayed(_Changed(course.batches, workers, course.prefetch, course.pins), drawn)


def _replayed(changed: _Changed, drawn: np.ndarray) -> Times:
    """(DRAWS,) mean step of each sequence."""
    steps = replay(
        changed.batches.pick(drawn), changed.workers, changed.prefetch, pins=changed.pins
    )
    skipped = min(settled(changed.workers, changed.prefetch), steps.shape[1] // 2)
    mean: Times = steps[:, skipped:].mean(axis=1)
    return mean


def held_out_error(course: Course) -> float | None:
    """Replaying one half of a run against the other half's measured step, as a relative error.

    The halves are every other stretch, so that the machine's drift is in both. None where there
    are too few batches, or nothing was recorded of the workers.
    """
    count = len(course)
    if course.workers is None or count < 2 * LEAST_BATCHES:
        return None
    cut = split_evenly(count, max(2, min(20, count // LEAST_BATCHES)))
    even = np.concatenate([np.arange(low, high) for low, high in cut[::2]])
    odd = np.concatenate([np.arange(low, high) for low, high in cut[1::2]])
    same = _Changed(course.batches, course.workers, course.prefetch, course.pins)
    replayed = float(_replayed(same, even[None, :])[0])
    return replayed / float(course.steps_ns[odd].mean()) - 1


# Changes -----------------------------------------------------------------------------------


def _part(ground: _Ground, question: Question) -> _Changed:
    """A stage or a part of a batch's cost takes less."""
    course = ground.course
    left = 1 - question.amount
    batches = course.batches
    stage = _stage_named(question.name)
    if stage is Stage.DATALOADER:
        batches = replace(
            batches,
            making=batches.making * left,
            handing=batches.handing * left,
            receiving=batches.receiving * left,
        )
    elif stage is not None:
        taken = course.stages_ns[:, STAGES.index(stage)]
        if not taken.any():
            raise Refusal(f"{stage.label} was not observed in this run")
        batches = replace(batches, using=batches.using - question.amount * taken)
    else:
        batches = _without_part(course, question)
    if course.workers is None:
        if stage is not Stage.DATALOADER:
            raise Refusal(
                "the loop is fed by workers of which nothing was recorded: it may wait for them "
                "instead; record it again",
                bound=_bound(course, batches),
            )
        return _Changed(batches, 0, 0, False)
    return _Changed(batches, course.workers, course.prefetch, course.pins)


def _without_part(course: Course, question: Question) -> Batches:
    batches = course.batches
    making = course.share(question.name, handing=False)
    handing = course.share(question.name, handing=True)
    if making is None and handing is None:
        raise Refusal(f"no part of a batch's cost is called {question.name!r}")
    return replace(
        batches,
        making=batches.making * (1 - question.amount * (making or 0.0)),
        handing=batches.handing * (1 - question.amount * (handing or 0.0)),
    )


def _memory(ground: _Ground, question: Question) -> _Changed:
    alone = ground.probes.get(0)
    course = alone or ground.course
    if course.workers is None or (course.workers and _is_crowded(course.workers, ground.machine)):
        raise Refusal(
            "without loader workers the model has the cores to itself, and is faster by as much as "
            "they slow it down now: a short run in memory tells",
            bound=None,
        )
    none = np.zeros_like(course.batches.making)
    changed = Batches(none, none, none, none, course.batches.using)
    assumes = "that slicing a batch out of memory takes no time"
    return _Changed(changed, 0, 0, False, assumes, alone)


def _workers(ground: _Ground, question: Question) -> _Changed:
    course, machine, wanted = ground.course, ground.machine, round(question.amount)
    if (probed := _probed(ground, wanted)) is not None:
        return probed
    batches = course.batches
    most = float(course.steps_ns.mean() / max(1.0, batches.using.mean()))
    if course.workers is None:
        raise Refusal("nothing was recorded of the workers: record it again", bound=most)
    if wanted == course.workers:
        return _Changed(batches, course.workers, course.prefetch, course.pins)
    if course.workers == 0:
        raise Refusal(
            "what a batch costs in a worker is not known from a run without any: collating into "
            "shared memory can make it dearer by half",
            bound=most,
        )
    if _is_crowded(max(wanted, course.workers), machine):
        raise Refusal(
            f"{wanted} workers and {machine.threads or 1} intra-op threads want more than the "
            f"{machine.cores} cores: they would slow each other down by an unknown amount",
            bound=most,
        )
    return _Changed(
        batches,
        wanted,
        course.prefetch or 2,
        course.pins and wanted > 0,
        "that a batch costs a worker what it does now",
    )


def _probed(ground: _Ground, wanted: int) -> _Changed | None:
    """From short runs with other numbers of workers; None where none of them tells."""
    known = {one.workers: one for one in ground.probes.values() if one.workers}
    if ground.course.workers:
        known.setdefault(ground.course.workers, ground.course)
    if wanted in ground.probes:
        near = ground.probes[wanted]
        return _Changed(near.batches, wanted, near.prefetch, near.pins, source=near)
    if not wanted or not ground.probes or not known:
        return None
    counts = sorted(known)
    nearest = min(counts, key=lambda count: (abs(count - wanted), count))
    near = known[nearest]
    making, using = (
        float(np.interp(wanted, counts, means)) / means[counts.index(nearest)]
        for means in (
            [float(known[count].batches.making.mean()) for count in counts],
            [float(known[count].batches.using.mean()) for count in counts],
        )
    )
    if wanted > counts[-1] and _is_crowded(wanted, ground.machine):
        # No core is left: each further worker takes its time from the others.
        making *= wanted / max(counts[-1], ground.machine.cores)
    changed = replace(
        near.batches, making=near.batches.making * making, using=near.batches.using * using
    )
    told = " and ".join(str(count) for count in counts)
    assumes = f"what a batch costs beside {told} workers"
    source = None if near is ground.course else near
    return _Changed(changed, wanted, near.prefetch or 2, near.pins, assumes, source)


def _prefetch(ground: _Ground, question: Question) -> _Changed:
    course = ground.course
    if not course.workers:
        raise Refusal("without workers nothing is made ahead", bound=1.0)
    return _Changed(course.batches, course.workers, round(question.amount), course.pins)


def _batch(ground: _Ground, question: Question) -> _Changed:
    """Between two ends: all that is done with a batch is fixed, or goes by the sample."""
    course = ground.course
    raise Refusal(
        "how much of forward to optimizer goes by the sample is not known from batches of one "
        "size; an epoch has fewer steps, which can win as much as is fixed in each",
        bound=question.amount
        * float(
            course.steps_ns.mean()
            / max(1.0, (course.batches.making * question.amount + course.batches.using).mean())
        )
        if course.workers == 0
        else question.amount,
    )


def _try(ground: _Ground, question: Question) -> _Changed:
    course = ground.course
    stages = FIXES.get(question.name)
    if stages is None:
        raise Refusal(f"unknown fix {question.name!r}: use one of {', '.join(FIXES)}")
    rows = [STAGES.index(stage) for stage in stages]
    taken = float(course.stages_ns[:, rows].sum(axis=1).mean())
    step = float(course.steps_ns.mean())
    names = " and ".join(stage.label for stage in stages)
    raise Refusal(
        f"unknown: try; no recording holds its effect on {names}",
        bound=step / max(1.0, step - taken),
    )


_CHANGES: dict[Change, Callable[[_Ground, Question], _Changed]] = {
    Change.PART: _part,
    Change.MEMORY: _memory,
    Change.WORKERS: _workers,
    Change.PREFETCH: _prefetch,
    Change.BATCH: _batch,
    Change.TRY: _try,
}


def _bound(course: Course, batches: Batches) -> float:
    """The speedup if no wait took the place of what goes."""
    gone = float((course.batches.using - batches.using).mean())
    step = float(course.steps_ns.mean())
    return step / max(1.0, step - gone)


def _stage_named(name: str) -> Stage | None:
    for stage in STAGES:
        if name in (stage.value, stage.label):
            return stage
    return None


def _is_crowded(workers: int, machine: Machine) -> bool:
    return workers + (machine.threads or 1) > machine.cores
