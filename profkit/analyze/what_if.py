"""Predicts from a recorded run what a step would take after a change.

The recorded batches are replayed with the change in them, in stretches drawn again and again; see
`loader_model`. What no recording holds is not guessed: it gets a bound, and a reason.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import special

from ..schema.estimate import Estimate
from ..schema.prediction import Change, Prediction, Predictions, Question
from .changes import CHANGES, Changed, Ground, Refusal, is_crowded
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
MOST_OFF = 0.3
"""With more of that error there is no ground for an estimate."""
WORTH = 1.03
"""What more workers must win to be worth it: more of them want more memory, and more cores."""


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
    ground = Ground(course, cores, probed, max(MODEL_ERROR, abs(off or 0.0)))
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


def _recommended_workers(ground: Ground, answers: Sequence[Prediction]) -> int | None:
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
        if count <= now or not is_crowded(count, ground) or (gain.low or 0.0) > 1
    }
    gains[now] = 1.0
    best = max(gains.values())
    return min(count for count, gain in gains.items() if gain * WORTH >= best)


def _answer(
    ground: Ground, drawn: Rows, base: Times, measured: Estimate, question: Question
) -> Prediction:
    try:
        if ground.model_error > MOST_OFF:
            raise Refusal(
                f"replaying one half of the run is {100 * ground.model_error:.0f} % off the other: "
                "record more steps, or longer epochs"
            )
        changed = CHANGES[question.change](ground, question)
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
    ground: Ground, drawn: Rows, base: Times, changed: Changed
) -> tuple[float, float, float]:
    """The step after the change over the one before, as logarithms: low end, estimate, high end."""
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


def _warm(source: Course, changed: Changed, after_ns: float) -> tuple[Batches, ...]:
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
    return _replayed(Changed(course.batches, workers, course.prefetch, course.pins), drawn)


def _replayed(changed: Changed, drawn: Rows) -> Times:
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
    same = Changed(course.batches, course.workers, course.prefetch, course.pins)
    replayed = float(_replayed(same, even[None, :])[0])
    return replayed / float(course.steps_ns[odd].mean()) - 1
