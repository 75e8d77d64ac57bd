"""Predicts from a recorded run what a step would take after a change.

The recorded batches are replayed with the change in them, in stretches drawn again and again; see
`loader_model`. What no recording holds is not guessed: it gets a bound, and a reason.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from ..schema.estimate import Estimate
from ..schema.prediction import Change, Prediction, Predictions, Question
from ..schema.stage import STAGES, Stage
from .course import Course
from .loader_model import Batches, Rows, Times, replay, settled
from .statistics import CONFIDENCE, independent_part, mean_of_blocks, split_evenly

DRAWS = 200
"""Sequences that are drawn for an interval; its ends are quantiles of a normal fit."""
MOST_REPLAYED = 1_000
"""Batches in each of them."""
STRETCH_S = 0.5
"""Length of the stretches that they are made of: what slows a machine down lasts about as long."""
LEAST_BATCHES = 20
MODEL_ERROR = 0.03
"""What the replay itself is off by at least, as a standard deviation of the predicted over the
measured step; more where a run's halves tell. Source: reports/what-if.md."""
COLD_NS, COLD_SHARE = 1.5e6, 0.25
"""What a loop that has just waited, or decoded, takes longer for a step at most: its caches are
cold. FastMLP's forward takes 0.77 of its time, and backward 0.83, where the loop decodes nothing
(tests/e2e/test_mnist_costs.py); a loop that waited 24 ms took 1.5 ms more (reports/what-if.md)."""
AFTERMATH_SHARE = 0.2
"""Of a part's own time, what may go with it at most: memory that it leaves behind, cold caches."""
MEMORY_ERROR = 0.08
"""What the model's own stages change by where no loader shares its heap and its caches."""
PROBE_ERROR = 0.04
"""What two processes that run one after the other differ by. Source: reports/what-if.md."""
WORTH = 1.03
"""What more workers must win to be worth it: more of them want more memory, and more cores."""
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
class _Ground:
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
class _Changed:
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


def predict(
    name: str,
    course: Course,
    cores: int,
    questions: Sequence[Question],
    probes: Sequence[Course] = (),
) -> Predictions:
    """Answers about one run.

    Args:
        name: of the run.
        course: its batches, at least `LEAST_BATCHES`.
        cores: that the program may use.
        questions: in any order.
        probes: short runs of the same program with other numbers of workers: what they do to each
            other and to the model can only be measured.
    """
    drawn = _draw(course)
    base = _base(course, drawn)
    measured = _measured(course)
    probed = {(one.workers, one.threads): one for one in probes if one.workers is not None}
    off = held_out_error(course)
    ground = _Ground(course, cores, probed, max(MODEL_ERROR, abs(off or 0.0)))
    answers = tuple(_answer(ground, drawn, base, measured, one) for one in questions)
    return Predictions(
        run=name,
        step_ns=measured,
        replayed_ns=float(base.mean()),
        batches=len(course),
        held_out_error=off,
        workers=_recommended_workers(ground, answers),
        answers=answers,
    )


def _recommended_workers(ground: _Ground, answers: Sequence[Prediction]) -> int | None:
    """The fewest loader workers that promise nearly the best step; None where nothing tells.

    Where they would want more cores than there are, more than now must be faster by the lower end
    of their interval.
    """
    now = ground.course.workers
    told = [
        (round(one.question.amount), one.speedup)
        for one in answers
        if one.question.change is Change.WORKERS and one.speedup is not None
    ]
    if now is None or not told:
        return None
    gains = {
        count: gain.value
        for count, gain in told
        if count <= now or not _is_crowded(count, ground) or (gain.low or 0.0) > 1
    }
    gains[now] = 1.0
    best = max(gains.values())
    return min(count for count, gain in gains.items() if gain * WORTH >= best)


def _answer(
    ground: _Ground, drawn: Rows, base: Times, measured: Estimate, question: Question
) -> Prediction:
    try:
        changed = _CHANGES[question.change](ground, question)
        low, center, high = _log_ratio(ground, drawn, base, changed)
    except Refusal as refused:
        return Prediction(question, None, None, refused.bound, refused.reason)
    spread = _log_reach(measured)
    step = measured.value * math.exp(center)
    faster, slower = math.hypot(center - low, spread), math.hypot(high - center, spread)
    gain = math.log(changed.times)
    count = measured.blocks
    return Prediction(
        question=question,
        step_ns=Estimate(step, step * math.exp(-faster), step * math.exp(slower), count),
        speedup=Estimate(
            math.exp(gain - center), math.exp(gain - high), math.exp(gain - low), count
        ),
        bound=None,
        assumes=changed.assumes,
    )


def _log_ratio(
    ground: _Ground, drawn: Rows, base: Times, changed: _Changed
) -> tuple[float, float, float]:
    """The step after the change over the one before, as a logarithm, between its interval's ends."""
    source = changed.source or ground.course
    rows = drawn if changed.source is None else _draw(changed.source)
    ends = changed.ends
    if changed.is_measured:
        after: Times = source.steps_ns[rows].mean(axis=1)
        base = ground.course.steps_ns[drawn].mean(axis=1)
    else:
        after = _replayed(changed, rows)
        ends = (*ends, *_warm(source, changed, float(after.mean())))
    if min(after.min(), base.min()) <= 0:
        raise Refusal("nothing else was observed in its steps")
    # The same stretches before and after: what they share cancels.
    ratios = np.log(after / base)
    center = float(ratios.mean())

    # The truth lies between the change as it is replayed and each of its other ends.
    def away(end: Batches) -> float:
        return float(np.log(_replayed(replace(changed, batches=end), rows) / base).mean()) - center

    apart = [away(end) / 2 for end in ends]
    tail = 0.0 if changed.tail is None else away(changed.tail)
    known = 0.0 if center == 0 else math.hypot(ground.model_error, changed.error)
    error = math.hypot(float(ratios.std()), known)
    reach = float(special.ndtri((1 + CONFIDENCE) / 2)) * error
    reach += sum(map(abs, apart))
    center += sum(apart)
    return center - reach + min(0.0, tail), center, center + reach + max(0.0, tail)


def _warm(source: Course, changed: _Changed, after_ns: float) -> tuple[Batches, ...]:
    """The other end where a loop that waited, or decoded, need not any more.

    Args:
        source: where the batches are from.
        changed: the loop after the change.
        after_ns: its mean step.
    """
    using = changed.batches.using
    waited_ns = float(source.steps_ns.mean() - source.batches.using.mean())
    waits_ns = after_ns - float(using.mean())
    if waits_ns >= waited_ns or waited_ns < COLD_NS:
        return ()
    gone = (1 - max(0.0, waits_ns) / waited_ns) * np.minimum(COLD_NS, COLD_SHARE * using)
    return (replace(changed.batches, using=using - gone),)


def _log_reach(measured: Estimate) -> float:
    if measured.low is None or measured.high is None or measured.low <= 0:
        return 0.0
    return math.log(measured.high / measured.low) / 2


def _measured(course: Course) -> Estimate:
    cut = split_evenly(len(course), min(20, len(course)))
    totals = np.array([course.steps_ns[low:high].sum() for low, high in cut])
    counts = np.array([high - low for low, high in cut], np.float64)
    return mean_of_blocks(totals, counts, beyond=True)


def _draw(course: Course) -> Rows:
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


def _base(course: Course, drawn: Rows) -> Times:
    workers = course.workers
    if workers is None:
        means: Times = course.steps_ns[drawn].mean(axis=1)
        return means
    return _replayed(_Changed(course.batches, workers, course.prefetch, course.pins), drawn)


def _replayed(changed: _Changed, drawn: Rows) -> Times:
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
    tail: Batches | None = None
    stage = _stage_named(question.name)
    if stage is Stage.DATALOADER:
        batches = replace(
            batches,
            making=batches.making * left,
            ordering=batches.ordering * left,
            starting=batches.starting * left,
            handing=batches.handing * left,
            pinning=batches.pinning * left,
            receiving=batches.receiving * left,
            answering=batches.answering * left,
        )
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
                "the loop is fed by workers of which nothing was recorded: it may wait for them "
                "instead; record it again",
                bound=_bound(course, batches),
            )
        return _Changed(batches, 0, 0, False)
    return _Changed(batches, course.workers, course.prefetch, course.pins, tail=tail)


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


def _memory(ground: _Ground, question: Question) -> _Changed:
    alone = ground.probe(0, ground.course.threads)
    course = alone or ground.course
    if course.workers is None or (course.workers and _is_crowded(course.workers, ground)):
        raise Refusal(
            "without loader workers the model has the cores to itself, and is faster by as much "
            "as they slow it down now: a short run without them tells"
        )
    none = np.zeros_like(course.batches.making)
    return _Changed(
        Batches(*[none] * 7, course.batches.using),
        workers=0,
        prefetch=0,
        pins=False,
        assumes="that slicing a batch out of memory takes no time",
        source=alone,
        error=MEMORY_ERROR,
    )


def _workers(ground: _Ground, question: Question) -> _Changed:
    course, wanted = ground.course, round(question.amount)
    if wanted == course.workers:
        return _Changed(course.batches, course.workers, course.prefetch, course.pins)
    if (probed := _probed(ground, wanted)) is not None:
        return probed
    batches = course.batches
    most = float(course.steps_ns.mean() / max(1.0, batches.using.mean()))
    if course.workers is None:
        raise Refusal("nothing was recorded of the workers: record it again", bound=most)
    if course.workers == 0:
        raise Refusal(
            "what a batch costs in a worker is not known from a run without any: collating into "
            "shared memory can make it dearer by half",
            bound=most,
        )
    if _is_crowded(max(wanted, course.workers), ground):
        raise Refusal(
            f"loader workers: {course.workers} now, {wanted} then; intra-op threads: "
            f"{course.threads or 1}; cores: {ground.cores}: how much they slow each other down is "
            "not known"
        )
    if wanted == 0:
        raise Refusal("what a batch costs the loop itself is not known from a run with workers")
    return _Changed(
        batches,
        wanted,
        course.prefetch or 2,
        course.pins,
        "that a batch costs a worker what it does now",
    )


def _probed(ground: _Ground, wanted: int) -> _Changed | None:
    """From short runs with other numbers of workers; None where none of them tells."""
    course = ground.course
    if (near := ground.probe(wanted, course.threads)) is not None:
        return _Changed(
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
    if wanted > counts[-1] and _is_crowded(wanted, ground):
        # No core is left: each further worker takes its time from the others.
        making *= max(1.0, wanted / max(counts[-1], ground.cores))
    changed = replace(
        near.batches, making=near.batches.making * making, using=near.batches.using * using
    )
    told = " and ".join(str(count) for count in counts)
    assumes = f"what a batch costs beside {told} workers"
    source = None if near is course else near
    return _Changed(
        changed, wanted, near.prefetch or 2, near.pins, assumes, source, error=PROBE_ERROR
    )


def _threads(ground: _Ground, question: Question) -> _Changed:
    course, wanted = ground.course, round(question.amount)
    probe = ground.probe(course.workers, wanted)
    if probe is None or probe.workers is None:
        raise Refusal("unknown: try; no recording holds what other intra-op threads do")
    return _Changed(
        probe.batches,
        probe.workers,
        probe.prefetch,
        probe.pins,
        source=probe,
        is_measured=True,
        error=PROBE_ERROR,
    )


def _prefetch(ground: _Ground, question: Question) -> _Changed:
    course = ground.course
    if not course.workers:
        raise Refusal("without workers nothing is made ahead", bound=1.0)
    return _Changed(course.batches, course.workers, round(question.amount), course.pins)


def _batch(ground: _Ground, question: Question) -> _Changed:
    """Between two ends: what is done with a batch is the same for each, or goes by the sample."""
    course, times = ground.course, question.amount
    if course.workers is None:
        raise Refusal("nothing was recorded of the workers: record it again")
    batches = course.batches
    fixed = course.stages_ns[:, STAGES.index(Stage.OPTIMIZER)]  # it knows parameters, no samples
    ends = [
        Batches(
            batches.ordering,
            batches.starting,
            batches.making * times,
            batches.handing * times,
            batches.pinning * times,
            batches.receiving * times,
            batches.answering,
            using,
        )
        for using in (batches.using, times * (batches.using - fixed) + fixed)
    ]
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
    return _Changed(
        ends[0],
        course.workers,
        course.prefetch,
        course.pins,
        "that making a batch goes by the sample; an epoch has fewer steps, which may take more "
        "epochs",
        ends=(ends[1],),
        times=times,
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


def _is_crowded(workers: int, ground: _Ground) -> bool:
    """Whether so many workers and the loop's threads want more cores than there are."""
    course = ground.course
    return workers * course.busy_share + (course.threads or 1) > ground.cores
