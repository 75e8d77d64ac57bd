"""Two loops that took turns in one process: their step times, pair of blocks by pair."""

from collections.abc import Callable

import numpy as np

from ..schema.estimate import Estimate
from ..schema.findings import Comparison, Contention
from ..schema.record import RunRecord
from ..schema.stage import STAGES, Stage
from ..schema.steps import Int64Array, StepTable
from .breakdown import active_rows, block_ids
from .core_waits import growth_by_waits
from .statistics import Values, paired_ratio, typical

MODEL_STAGES = (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER)
_MODEL_COLUMNS = [STAGES.index(stage) for stage in MODEL_STAGES]


def compare(base: RunRecord, other: RunRecord) -> Comparison | None:
    """How many times faster `other` is; None unless the two took turns, block by block."""
    group = base.manifest.group
    if group is None or group != other.manifest.group:
        return None
    pairs = _pairs(base.steps, other.steps, lambda steps: steps.step_ns, drained=True)
    if pairs is None:
        return None
    return Comparison(
        base=base.manifest.name,
        other=other.manifest.name,
        speedup=paired_ratio(*pairs),
        base_step_ns=typical(pairs[0]),
        other_step_ns=typical(pairs[1]),
    )


def contention(run: RunRecord, core_wait: Estimate | None = None) -> Contention | None:
    """What loader workers do to the loop's own work; None where nothing tells.

    Args:
        run: with a reference, if one was made.
        core_wait: see `RunFindings`; tells where there is no reference.
    """
    reference, loader = run.reference, run.manifest.loader
    threads = run.manifest.environment.intra_op_threads
    if loader is None or not loader.num_workers or threads is None:
        return None
    pairs = None
    if reference is not None:
        pairs = _pairs(run.steps, reference, _model_ns, drained=False)
    if pairs is not None:
        growth = paired_ratio(*pairs)
    elif core_wait is not None and core_wait.low is not None:
        growth = growth_by_waits(core_wait)
    else:
        return None
    return Contention(
        workers=loader.num_workers,
        threads=threads,
        cores=run.manifest.environment.hardware.usable_cores,
        growth=growth,
        model_ns=None if pairs is None else typical(pairs[0]),
        model_alone_ns=None if pairs is None else typical(pairs[1]),
        core_wait=core_wait if pairs is None else None,
    )


def unknown_contention(run: RunRecord) -> str | None:
    """What is left open where workers and threads want more cores than there are, in a sentence.

    None where they do not; to be asked where `contention` knows nothing.
    """
    loader, environment = run.manifest.loader, run.manifest.environment
    workers = 0 if loader is None else loader.num_workers or 0
    threads, cores = environment.intra_op_threads, environment.hardware.usable_cores
    if not workers or threads is None or workers + threads <= cores:
        return None
    return (
        f"loader workers ({workers}) and intra-op threads ({threads}) share {cores} cores: whether "
        "they slow the model down (contended) is not known without the same loop at 0 workers"
    )


def _model_ns(steps: StepTable) -> Int64Array:
    taken: Int64Array = steps.stage_ns[:, _MODEL_COLUMNS].sum(axis=1)
    return taken


def _pairs(
    base: StepTable,
    other: StepTable,
    durations: Callable[[StepTable], Int64Array],
    *,
    drained: bool,
) -> tuple[Values, Values] | None:
    """Mean durations in the blocks in which both have active steps; None without any."""

    def mean(block: StepTable) -> float:
        return float(durations(block).mean())

    over, under = pair_blocks(base, other, mean, drained=drained)
    if not over.size or not (over > 0).all() or not (under > 0).all():
        return None
    return over, under


def pair_blocks(
    base: StepTable, other: StepTable, value: Callable[[StepTable], float], *, drained: bool
) -> tuple[Values, Values]:
    """(b,), (b,) a value of either in each of the blocks in which both have active steps.

    Args:
        base, other: steps of loops that took turns, block by block.
        value: of a block's active steps.
        drained: whether steps that end in a drain count.
    """
    left = _block_values(base, value, drained)
    right = _block_values(other, value, drained)
    shared = sorted(left.keys() & right.keys())
    return (
        np.array([left[block] for block in shared], np.float64),
        np.array([right[block] for block in shared], np.float64),
    )


def _block_values(
    steps: StepTable, value: Callable[[StepTable], float], drained: bool
) -> dict[int, float]:
    rows = active_rows(steps, drained=drained)
    ids = block_ids(steps)[rows]
    return {int(block): value(steps.select(rows[ids == block])) for block in np.unique(ids)}
