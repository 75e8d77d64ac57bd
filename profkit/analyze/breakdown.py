"""Steps to stages: what each of them took, with the interval of its share."""

import numpy as np

from ..schema.findings import Breakdown, StageFinding
from ..schema.stage import STAGES, Stage
from ..schema.steps import NOT_TIMED, Flag, Int64Array, StepTable
from .statistics import mean_of_blocks, share_of_sums, split_evenly, summarize

TARGET_BLOCKS = 20
"""Blocks that an uninterrupted loop is cut into; enough for an interval, long enough each."""
_REASONS = (
    Flag.EVALUATION,
    Flag.WARMUP,
    Flag.DISTURBED,
    Flag.PARTIAL,
    Flag.COMPILED,
    Flag.INTERRUPTED,
)
ENOUGH_BLOCKS = 8
"""Iterations over the loader from which each is a block: halves of one are not independent."""


def active_rows(steps: StepTable, *, drained: bool = False) -> Int64Array:
    """Rows of the steps whose times count; with `drained` also those that end in a drain."""
    out = int(NOT_TIMED) if drained else int(NOT_TIMED | Flag.DRAIN)
    return np.flatnonzero((steps.flags & out) == 0)


def block_ids(steps: StepTable) -> Int64Array:
    """(n,) int64: for each step the number of the iteration over the loader that it is in."""
    return np.cumsum((steps.flags & int(Flag.BLOCK_START)) != 0)


def blocks(steps: StepTable, rows: Int64Array) -> list[Int64Array]:
    """The rows, cut into blocks for inference: no block spans two iterations over the loader.

    With few iterations, those longer than a twentieth of all are cut evenly, so that a single
    long epoch gives an interval too.
    """
    if rows.size == 0:
        return []
    runs = _runs(block_ids(steps)[rows])
    enough = len(runs) >= ENOUGH_BLOCKS
    longest = rows.size if enough else max(1, -(-rows.size // TARGET_BLOCKS))
    found = []
    for start, end in runs:
        for low, high in split_evenly(end - start, -(-(end - start) // longest)):
            found.append(rows[start + low : start + high])
    return found


def break_down(steps: StepTable, *, beyond: bool = False) -> Breakdown:
    """The stages of the active steps, each None if it was never marked.

    Args:
        steps: in the order of time.
        beyond: whether intervals are to hold for later steps as well; see `share_of_sums`.
    """
    rows = active_rows(steps)
    cut = blocks(steps, rows)
    step_ns = steps.step_ns
    totals = np.array([step_ns[block].sum() for block in cut], np.float64)
    stages: dict[Stage, StageFinding | None] = {}
    for index, stage in enumerate(STAGES):
        seen = bool(steps.marked[rows, index].any())
        if not seen:
            stages[stage] = None
            continue
        taken = steps.stage_ns[:, index]
        summary = summarize(taken[rows])
        assert summary is not None  # a mark was seen, so there is a step
        parts = np.array([taken[block].sum() for block in cut], np.float64)
        stages[stage] = StageFinding(
            share=share_of_sums(parts, totals, beyond=beyond),
            total_ns=summary.total,
            median_ns=summary.median,
            iqr_ns=summary.iqr,
        )
    left_out = _left_out(steps.flags)
    is_evaluation = (steps.flags & int(Flag.EVALUATION)) != 0
    # Throughput: on a device a block's time includes the wait for what it queued.
    drained = active_rows(steps, drained=True)
    whole = blocks(steps, drained)
    samples = steps.samples[drained]
    known = drained.size > 0 and bool((samples >= 0).all())
    return Breakdown(
        steps=summarize(step_ns[rows]),
        mean_step_ns=mean_of_blocks(
            np.array([step_ns[block].sum() for block in whole], np.float64),
            np.array([block.size for block in whole], np.float64),
            beyond=beyond,
        )
        if whole
        else None,
        warmup=left_out[Flag.WARMUP],
        disturbed=left_out[Flag.DISTURBED],
        partial=left_out[Flag.PARTIAL],
        compiled=left_out[Flag.COMPILED],
        interrupted=left_out[Flag.INTERRUPTED],
        evaluation=left_out[Flag.EVALUATION],
        evaluation_ns=int(step_ns[is_evaluation].sum()),
        samples_per_s=float(samples.sum() / step_ns[drained].sum() * 1e9) if known else None,
        stages=stages,
        rank_wait_share=None
        if steps.collective_wait_ns is None or not cut
        else share_of_sums(
            np.array([steps.collective_wait_ns[block].sum() for block in cut], np.float64), totals
        ),
    )


def _left_out(flags: Int64Array) -> dict[Flag, int]:
    """How many steps each reason leaves out; each step counts once."""
    found = {}
    for flag in _REASONS:
        hit = (flags & int(flag)) != 0
        found[flag] = int(hit.sum())
        flags = flags[~hit]
    return found


def _runs(ids: Int64Array) -> list[tuple[int, int]]:
    """Half-open bounds of the stretches of equal values."""
    edges = np.flatnonzero(np.diff(ids)) + 1
    bounds = [0, *edges.tolist(), int(ids.size)]
    return list(zip(bounds, bounds[1:], strict=False))
