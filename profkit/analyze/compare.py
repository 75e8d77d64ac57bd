"""Two loops that took turns in one process: their step times, pair of blocks by pair."""

from collections.abc import Callable

import numpy as np

from ..schema.findings import Comparison, Contention, Estimate
from ..schema.run import RunRecord
from ..schema.stage import STAGES, Stage
from ..schema.steps import Int64Array, StepTable
from .breakdown import active_rows, block_ids
from .statistics import Values, paired_ratio

MODEL_STAGES = (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER)
_MODEL_COLUMNS = [STAGES.index(stage) for stage in MODEL_STAGES]


def compare(base: RunRecord, other: RunRecord) -> Comparison | None:
    """How many times faster `other` is; None unless the two took turns, block by block."""
    group = base.manifest.group
    if group is None or group != other.manifest.group:
        return None
    speedup = _ratio(base.steps, other.steps, lambda steps: steps.step_ns, drained=True)
    if speedup is None:
        return None
    return Comparison(
        base=base.manifest.name,
        other=other.manifest.name,
        speedup=speedup,
        base_median_ns=_median(base.steps, base.steps.step_ns),
        other_median_ns=_median(other.steps, other.steps.step_ns),
    )


def contention(run: RunRecord) -> Contention | None:
    """What loader workers do to the model's own stages; None where no reference was made."""
    reference, loader = run.reference, run.manifest.loader
    environment = run.manifest.environment
    if reference is None or loader is None or not loader.num_workers:
        return None
    growth = _ratio(run.steps, reference, _model_ns, drained=False)
    if growth is None or environment.intra_op_threads is None:
        return None
    return Contention(
        workers=loader.num_workers,
        threads=environment.intra_op_threads,
        cores=environment.hardware.usable_cores,
        model_ns=_median(run.steps, _model_ns(run.steps)),
        model_alone_ns=_median(reference, _model_ns(reference)),
        growth=growth,
    )


def _model_ns(steps: StepTable) -> Int64Array:
    taken: Int64Array = steps.stage_ns[:, _MODEL_COLUMNS].sum(axis=1)
    return taken


def _median(steps: StepTable, values: Int64Array) -> float:
    return float(np.median(values[active_rows(steps)]))


def _ratio(
    base: StepTable,
    other: StepTable,
    durations: Callable[[StepTable], Int64Array],
    *,
    drained: bool,
) -> Estimate | None:
    """Ratio of mean durations over the blocks in which both have active steps."""
    left = _block_means(base, durations(base), drained)
    right = _block_means(other, durations(other), drained)
    shared = sorted(left.keys() & right.keys())
    if not shared:
        return None
    over: Values = np.array([left[block] for block in shared])
    under: Values = np.array([right[block] for block in shared])
    if not (over > 0).all() or not (under > 0).all():
        return None
    return paired_ratio(over, under)


def _block_means(steps: StepTable, values: Int64Array, drained: bool) -> dict[int, float]:
    rows = active_rows(steps, drained=drained)
    ids = block_ids(steps)[rows]
    return {int(block): float(values[rows[ids == block]].mean()) for block in np.unique(ids)}
