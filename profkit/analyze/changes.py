"""What each change makes of a recorded loop: the batches to replay, or why none can be told."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..schema.prediction import Change, Question
from ..schema.stage import STAGES, Stage
from .course import Course
from .loader_model import Batches, replay

AFTERMATH_SHARE = 0.2
"""Of a part's own time, what may go with it at most: memory that it leaves behind, cold caches."""
MEMORY_ERROR = 0.08
"""What the model's own stages change by where no loader shares its heap and its caches."""
PROBE_ERROR = 0.04
"""What two processes that run one after the other differ by. Source: reports/what-if.md."""
WIDEST_LOG = 0.3
"""Two ends that lie further apart make no estimate."""
FIXES = {
    "bf16 autocast": (Stage.FORWARD, Stage.BACKWARD),
    "torch.compile": (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER),
    "channels_last": (Stage.FORWARD, Stage.BACKWARD),
    "fused or foreach optimizer": (Stage.OPTIMIZER,),
}
"""Fixes whose effect no recording holds, and the stages that they can shorten."""


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
class Ground:
    """What answers start from.

    Attributes:
        course: of the run.
        cores: that the program may use.
        probes: short runs with other settings, by loader workers and intra-op threads.
        model_error: what replaying is off by, as a standard deviation of the logarithm.
    """

    course: Course
    cores: int
    probes: Mapping[tuple[int, int | None], Course]
    model_error: float

    def probe(self, workers: int | None, threads: int | None) -> Course | None:
        """What was measured with these settings."""
        return None if workers is None else self.probes.get((workers, threads))


@dataclass(frozen=True, slots=True, eq=False)
class Changed:
    """A loop after the change.

    Attributes:
        batches, workers, prefetch, pins: what is replayed.
        assumes: in words.
        source: a probe, where its batches are not the run's own.
        is_measured: whether that probe has run with the very change: then nothing is replayed.
        ends: the truth lies between these batches and each of those.
        tail: what the truth may be as far from, where the batches are likelier.
        error: of this kind of change, beside the replay's, as a standard deviation likewise.
        times: samples in a batch, over what they were.
    """

    batches: Batches
    workers: int
    prefetch: int
    pins: bool
    assumes: str | None = None
    source: Course | None = None
    is_measured: bool = False
    ends: tuple[Batches, ...] = ()
    tail: Batches | None = None
    error: float = 0.0
    times: float = 1.0


def _part(ground: Ground, question: Question) -> Changed:
    """A stage or a part of a batch's cost takes less."""
    course = ground.course
    left = 1 - question.amount
    batches = course.batches
    tail: Batches | None = None
    stage = _stage_named(question.name)
    if stage is Stage.DATALOADER:
        batches = batches.times(left)
    elif stage is not None:
        taken = course.stages_ns[:, STAGES.index(stage)]
        if not taken.any():
            raise Refusal(f"{stage.label} was not observed in this run")
        batches = replace(batches, using=batches.using - question.amount * taken)
    else:
        batches = _without_part(course, question, 1.0)
        tail = _without_part(course, question, 1 + AFTERMATH_SHARE)
    if course.workers is None:
        if stage is not Stage.DATALOADER:
            raise Refusal(
                f"the loop is fed by workers, and may wait for them instead; {course.untold}",
                bound=_bound(course, batches),
            )
        return Changed(batches, 0, 0, False)
    return Changed(batches, course.workers, course.prefetch, course.pins, tail=tail)


def _without_part(course: Course, question: Question, times: float) -> Batches:
    """The batches without a part.

    Args:
        course: with the part's shares.
        question: which part, and how much of it goes.
        times: of what it took itself, what goes.
    """
    batches = course.batches
    making = course.share(question.name, handing=False)
    handing = course.share(question.name, handing=True)
    if making is None and handing is None:
        raise Refusal(f"no part of a batch's cost is called {question.name!r}")
    gone = times * question.amount
    return replace(
        batches,
        making=batches.making * max(0.0, 1 - gone * (making or 0.0)),
        handing=batches.handing * max(0.0, 1 - gone * (handing or 0.0)),
    )


def _memory(ground: Ground, question: Question) -> Changed:
    alone = ground.probe(0, ground.course.threads)
    course = alone or ground.course
    if course.workers is None or (course.workers and is_crowded(course.workers, ground)):
        raise Refusal(
            "without loader workers the model has the cores to itself, and is faster by as much "
            "as they slow it down now: a short run without them tells"
        )
    return Changed(
        Batches.of_the_loop(np.zeros_like(course.batches.making), course.batches.using),
        workers=0,
        prefetch=0,
        pins=False,
        assumes="that slicing a batch out of memory takes no time",
        source=alone,
        error=MEMORY_ERROR,
    )


def _workers(ground: Ground, question: Question) -> Changed:
    course, wanted = ground.course, round(question.amount)
    if wanted == course.workers:
        return Changed(course.batches, course.workers, course.prefetch, course.pins)
    if (probed := _probed(ground, wanted)) is not None:
        return probed
    batches = course.batches
    most = float(course.steps_ns.mean() / max(1.0, batches.using.mean()))
    if course.workers is None:
        raise Refusal(course.untold, bound=most)
    if course.workers == 0:
        raise Refusal(
            "what a batch costs in a worker is not known from a run without any: collating into "
            "shared memory can make it dearer by half",
            bound=most,
        )
    if is_crowded(max(wanted, course.workers), ground):
        raise Refusal(
            f"loader workers: {course.workers} now, {wanted} then; intra-op threads: "
            f"{course.threads or 1}; cores: {ground.cores}: how much they slow each other down is "
            "not known"
        )
    if wanted == 0:
        raise Refusal("what a batch costs the loop itself is not known from a run with workers")
    return Changed(
        batches,
        wanted,
        course.prefetch or 2,
        course.pins,
        "that a batch costs a worker what it does now",
    )


def _probed(ground: Ground, wanted: int) -> Changed | None:
    """From short runs with other numbers of workers; None where none of them tells."""
    course = ground.course
    if (near := ground.probe(wanted, course.threads)) is not None:
        return Changed(
            near.batches,
            wanted,
            near.prefetch,
            near.pins,
            source=near,
            is_measured=True,
            error=PROBE_ERROR,
        )
    known = {
        workers: probe
        for (workers, threads), probe in ground.probes.items()
        if workers and threads == course.threads
    }
    if not wanted or not known:
        return None
    if course.workers:
        known.setdefault(course.workers, course)
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
    if wanted > counts[-1] and is_crowded(wanted, ground):
        # No core is left: each further worker takes its time from the others.
        making *= max(1.0, wanted / max(counts[-1], ground.cores))
    changed = replace(
        near.batches, making=near.batches.making * making, using=near.batches.using * using
    )
    told = " and ".join(str(count) for count in counts)
    assumes = f"what a batch costs beside {told} workers"
    source = None if near is course else near
    return Changed(
        changed, wanted, near.prefetch or 2, near.pins, assumes, source, error=PROBE_ERROR
    )


def _threads(ground: Ground, question: Question) -> Changed:
    course, wanted = ground.course, round(question.amount)
    if wanted == course.threads and course.workers is not None:
        return Changed(course.batches, course.workers, course.prefetch, course.pins)
    probe = ground.probe(course.workers, wanted)
    if probe is None or probe.workers is None:
        raise Refusal("unknown: try; no recording holds what other intra-op threads do")
    return Changed(
        probe.batches,
        probe.workers,
        probe.prefetch,
        probe.pins,
        source=probe,
        is_measured=True,
        error=PROBE_ERROR,
    )


def _prefetch(ground: Ground, question: Question) -> Changed:
    course = ground.course
    if not course.workers:
        raise Refusal("no effect: without workers nothing is made ahead", bound=1.0)
    return Changed(course.batches, course.workers, round(question.amount), course.pins)


def _batch(ground: Ground, question: Question) -> Changed:
    """Between two ends: what is done with a batch is the same for each, or goes by the sample."""
    course, times = ground.course, question.amount
    if course.workers is None:
        raise Refusal(course.untold)
    batches = course.batches
    fixed = course.stages_ns[:, STAGES.index(Stage.OPTIMIZER)]  # it knows parameters, no samples
    # Orders, and what its worker's next batch keeps one waiting, know no samples.
    larger = replace(
        batches.times(times),
        ordering=batches.ordering,
        starting=batches.starting,
        answering=batches.answering,
    )
    ends = [larger, replace(larger, using=times * (batches.using - fixed) + fixed)]
    means = [
        max(1.0, float(replay(end, course.workers, course.prefetch, pins=course.pins).mean()))
        for end in ends
    ]
    if abs(math.log(means[1] / means[0])) > WIDEST_LOG:
        raise Refusal(
            "how much of forward to optimizer goes by the sample is not known from batches of "
            "one size",
            bound=times * float(course.steps_ns.mean()) / min(means),
        )
    return Changed(
        ends[0],
        course.workers,
        course.prefetch,
        course.pins,
        "that making a batch goes by the sample; an epoch has fewer steps, which may take more "
        "epochs",
        ends=(ends[1],),
        times=times,
    )


def _try(ground: Ground, question: Question) -> Changed:
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


CHANGES: dict[Change, Callable[[Ground, Question], Changed]] = {
    Change.PART: _part,
    Change.MEMORY: _memory,
    Change.WORKERS: _workers,
    Change.PREFETCH: _prefetch,
    Change.THREADS: _threads,
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


def is_crowded(workers: int, ground: Ground) -> bool:
    """Whether so many workers and the loop's threads want more cores than there are."""
    course = ground.course
    return workers * course.busy_share + (course.threads or 1) > ground.cores
