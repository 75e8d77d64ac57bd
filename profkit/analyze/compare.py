"""Two loops beside each other: pair of blocks by pair where they took turns in one process."""

from collections.abc import Callable

import numpy as np

from ..schema.estimate import Estimate
from ..schema.findings import Comparison, Contention, StageGrowth
from ..schema.record import RunRecord
from ..schema.run import RunManifest
from ..schema.stage import STAGES, Stage
from ..schema.steps import Int64Array, StepTable
from .breakdown import active_rows, block_ids, blocks
from .core_waits import growth_by_waits
from .statistics import Values, paired_ratio, ratio_of_means, typical
from .turns import block_means

MODEL_STAGES = (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER)


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
    loader, threads = run.manifest.loader, run.manifest.environment.intra_op_threads
    if loader is None or not loader.num_workers or threads is None:
        return None
    model = _growth(run, *MODEL_STAGES)
    if model is not None:
        growth = model[2]
    elif core_wait is not None and core_wait.low is not None:
        growth = growth_by_waits(core_wait)
    else:
        return None
    each = {stage: _growth(run, stage) for stage in MODEL_STAGES}
    return Contention(
        workers=loader.num_workers,
        threads=threads,
        cores=run.manifest.environment.hardware.usable_cores,
        growth=growth,
        model_ns=None if model is None else model[0],
        model_alone_ns=None if model is None else model[1],
        core_wait=core_wait,
        stages=tuple(StageGrowth(stage, *one) for stage, one in each.items() if one is not None),
    )


def wants_too_many_cores(manifest: RunManifest) -> bool:
    """Whether there are loader workers, and they and the intra-op threads outnumber the cores."""
    loader, environment = manifest.loader, manifest.environment
    workers = 0 if loader is None else loader.num_workers or 0
    threads, cores = environment.intra_op_threads, environment.hardware.usable_cores
    return workers > 0 and threads is not None and workers + threads > cores


def unknown_contention(run: RunRecord) -> str | None:
    """What is left open where workers and threads want more cores than there are, in a sentence.

    None where they do not; to be asked where `contention` knows nothing.
    """
    loader, environment = run.manifest.loader, run.manifest.environment
    if loader is None or not wants_too_many_cores(run.manifest):
        return None
    threads, cores = environment.intra_op_threads, environment.hardware.usable_cores
    return (
        f"loader workers ({loader.num_workers}) and intra-op threads ({threads}) share {cores} "
        "cores: whether they slow the model down (contended) is not known without the same loop "
        "at 0 workers"
    )


def _growth(run: RunRecord, *stages: Stage) -> tuple[float, float, Estimate] | None:
    """What these stages take of a step with workers and in the reference, in ns, and the ratio.

    None without a reference, where either was never seen in them, or of too few blocks.
    """
    columns = [STAGES.index(stage) for stage in stages]

    def taken(steps: StepTable) -> Int64Array:
        durations: Int64Array = steps.stage_ns[:, columns].sum(axis=1)
        return durations

    if run.reference is None:
        return None
    if run.manifest.group is not None:
        pairs = _pairs(run.steps, run.reference, taken, drained=False)
        return pairs and (typical(pairs[0]), typical(pairs[1]), paired_ratio(*pairs))
    over, under = (
        block_means(steps, blocks(steps, active_rows(steps)))[:, columns].sum(axis=1)
        for steps in (run.steps, run.reference)
    )
    ratio = ratio_of_means(over, under, beyond=False)  # it is about this run, phases and all
    return None if ratio is None else (float(over.mean()), float(under.mean()), ratio.estimate)


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
