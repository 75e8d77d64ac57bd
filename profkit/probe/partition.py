"""Turns what the stage clock noted into steps, each partitioned into its stages.

The clock notes pairs of integers: what happened, and when in ns. A step is OPEN (the request for
a batch), BATCH (it came), any number of marks, and a close event, which carries the batch size
and the flags. A step without a request begins with BEGIN instead. A mark is the index of its
stage, and LEAVE at its end. From a WAIT to the next event, whatever it is, the host waits for
other ranks, in whichever stage that is; WAITED is an event for just that.
"""

from array import array

import numpy as np

from ..schema.sampling import stride
from ..schema.stage import STAGES, Stage
from ..schema.steps import BoolArray, Int64Array, MarkTable, StepTable

LEAVE, OPEN, BATCH, BEGIN, WAIT, WAITED = -1, -2, -3, -4, -5, -6
_CLOSE = 16
_FLAGS = 1024
"""Flags are below it; the batch size is counted in it."""

_DATALOADER = STAGES.index(Stage.DATALOADER)
_OTHER = STAGES.index(Stage.OTHER)
_LOWEST = 4
"""Makes the lowest event that tells a stage, BEGIN, the first row of `_PLAIN`."""
_PLAIN = np.array([_OTHER, _OTHER, _DATALOADER, _OTHER, *range(len(STAGES)), _OTHER])
"""The stage from each event on without nested marks: BEGIN, BATCH, OPEN, LEAVE, stages, close."""
_SEGMENTS_AN_OCTAVE = 32
_SEGMENTS_A_STEP = 256


def close_event(samples: int, flags: int) -> int:
    """The event that closes a step of so many samples (-1: unknown) with these flags."""
    return _CLOSE + flags + _FLAGS * (samples + 1)


def is_close(event: int) -> bool:
    """Whether an event closes a step."""
    return event >= _CLOSE


def partition(
    events: "array[int]", first_step: int = 0, *, collectives: bool = False
) -> tuple[StepTable, MarkTable]:
    """Give every nanosecond of each step to exactly one stage: that of the innermost mark.

    Args:
        events: closed steps, see above.
        first_step: how many steps there were before.
        collectives: whether waits for other ranks were looked for.

    Returns:
        The steps; and the segments of those that are sampled (`is_sampled`), in order.
    """
    pairs = np.frombuffer(events, np.int64).reshape(-1, 2)
    code, when, opens, closes = _bounds(pairs)
    if not _begins(code[opens]).all():
        # A mark that outlived its step ended before the next one opened.
        code, when, opens, closes = _bounds(pairs[_inside(code, closes)])
    count = closes.size
    step = np.repeat(np.arange(count), closes - opens + 1)
    stage = _current_stage(code, step, opens)
    # From each event to the next; the close itself lasts for nothing.
    duration = np.diff(when, append=when[-1:])
    duration[closes] = 0
    cell = step * len(STAGES) + stage
    shape = (count, len(STAGES))
    # Exact: float64 holds integers below 2**53 ns, which is 104 days.
    taken = np.bincount(cell, duration, count * len(STAGES)).astype(np.int64)
    marked = np.bincount(cell, minlength=count * len(STAGES)).reshape(shape) > 0
    marked[:, _OTHER] = True
    closing = code[closes] - _CLOSE
    steps = StepTable(
        start_ns=when[opens],
        end_ns=when[closes],
        stage_ns=taken.reshape(shape),
        marked=marked,
        collective_wait_ns=_waits(code, duration, step, count) if collectives else None,
        samples=closing // _FLAGS - 1,
        flags=closing % _FLAGS,
    )
    # A loop of thousands of tiny marks would make the sample unbounded.
    kept = is_sampled(np.arange(count) + first_step) & (closes - opens <= _SEGMENTS_A_STEP)
    shown = np.flatnonzero(kept[step] & (duration > 0))
    marks = MarkTable(step[shown] + first_step, stage[shown], when[shown], when[shown + 1])
    return steps, marks


def is_sampled(step: Int64Array) -> BoolArray:
    """Whether the segments of a step are kept: all of the first 64, then 32 an octave.

    A million steps keep 512, without a random draw and without knowing the length before.
    """
    sampled: BoolArray = step % stride(step, _SEGMENTS_AN_OCTAVE) == 0
    return sampled


def _bounds(pairs: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """(n,) what happened and when, and (steps,) the rows of the first and last event of each."""
    code, when = pairs[:, 0], pairs[:, 1]
    closes = np.flatnonzero(code >= _CLOSE)
    return code, when, np.concatenate(([0], closes + 1))[:-1], closes


def _begins(code: Int64Array) -> BoolArray:
    """(n,) whether each event opens a step."""
    opening: BoolArray = (code == OPEN) | (code == BEGIN)
    return opening


def _inside(code: Int64Array, closes: Int64Array) -> BoolArray:
    """(n,) whether each event lies in a step, its opening and its close included."""
    latest_opening = _latest(_begins(code))
    latest_close = np.full(code.size, -1)
    latest_close[closes[:-1] + 1] = closes[:-1]
    inside: BoolArray = latest_opening > np.maximum.accumulate(latest_close)
    return inside


def _current_stage(code: Int64Array, step: Int64Array, opens: Int64Array) -> Int64Array:
    """(n,) the stage from each event on."""
    entered = (code >= 0) & (code < _CLOSE)
    if bool((code <= WAIT).any()):
        return _innermost_stage(code, step, opens, entered)
    plain = _PLAIN.take(np.minimum(code, len(STAGES)) + _LOWEST)
    before = plain[:-1]
    # Most loops do not nest their marks: then what an event is tells the stage by itself.
    nested = entered[1:] & (before != _OTHER)
    unmatched = (code[1:] == LEAVE) & ~entered[:-1]
    if not nested.any() and not unmatched.any():
        return plain
    return _innermost_stage(code, step, opens, entered)


def _innermost_stage(
    code: Int64Array, step: Int64Array, opens: Int64Array, entered: BoolArray
) -> Int64Array:
    """The same where marks may be nested, and events between them say nothing of stages."""
    depth = _depth(code, step, opens)
    # Without a mark: waiting until the batch came, something else afterwards.
    came = (code == BATCH) | (code == BEGIN)
    stage = np.where(_latest(code == OPEN) > _latest(came), _DATALOADER, _OTHER)
    for level in range(1, int(depth.max()) + 1):
        inside = depth == level
        stage[inside] = code[_latest(entered & inside)[inside]]
    return stage


def _waits(code: Int64Array, duration: Int64Array, step: Int64Array, count: int) -> Int64Array:
    """(count,) ns that each step waited for other ranks."""
    waiting = code == WAIT
    # Several in a row: each gradient that is ready could be the last one.
    waiting[:-1] &= ~waiting[1:]
    weights = np.where(waiting, duration, 0)
    return np.bincount(step, weights, minlength=count).astype(np.int64)


def _latest(chosen: BoolArray) -> Int64Array:
    """(n,) for each event the row of the latest chosen one, -1 before the first."""
    rows: Int64Array = np.maximum.accumulate(np.where(chosen, np.arange(chosen.size), -1))
    return rows


def _depth(code: Int64Array, step: Int64Array, opens: Int64Array) -> Int64Array:
    """(n,) how many marks are open after each event, anew in each step.

    A LEAVE without its mark (which was entered before the step) counts for nothing.
    """
    entered = (code >= 0) & (code < _CLOSE)
    change = entered.astype(np.int64) - (code == LEAVE)
    running = np.cumsum(change)
    running -= (running - change)[opens][step]
    # The running minimum of each step by itself: every step lies below the one before.
    below = step * (2 * code.size + 1)
    lowest: Int64Array = np.minimum.accumulate(running - below) + below
    depth: Int64Array = running - np.minimum(lowest, 0)
    return depth
