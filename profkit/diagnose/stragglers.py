"""Which ranks stand out, which died, and which left nothing.

A rank is named for being slower than the others step after step, and told by the replay what
that costs. Naming by the replay alone would leave out the two commonest cases: ranks that are
slow together (each alone wins nothing back), and a slow one among very many, some other of
which is late by chance at every step.
"""

from collections import Counter

import numpy as np

from ..analyze.breakdown import active_rows
from ..analyze.rank_grid import RankGrid, align, waits_are_known
from ..analyze.ranks import (
    Excess,
    longer_share,
    measure_excess,
    recovered,
    replay,
    share_of_excess,
    waits_less_than_others,
)
from ..analyze.statistics import Values, weighted_median
from ..schema.estimate import Estimate
from ..schema.ranks import (
    RankFinding,
    RankRecord,
    RanksFindings,
    RanksRecord,
    Replay,
    Spread,
    Straggler,
)
from ..schema.run import COMPLETED, KILLED
from ..schema.stage import STAGES, Stage
from . import policy


def judge_ranks(record: RanksRecord) -> RanksFindings:
    """The ranks of one launch beside each other: what they spread over, and who stands out."""
    gaps = list(record.gaps)
    world_size = _world_size(record, gaps)
    grid = align(record.ranks)
    ranks = tuple(_finding(one, grid) for one in record.ranks)
    waits_known = waits_are_known(record.ranks)
    replayed: Replay | None = None
    stragglers: tuple[Straggler, ...] | None = None
    together: Estimate | None = None
    common = 0 if grid is None else int(grid.weight.size)
    if grid is not None and common >= policy.MIN_STEPS:
        replayed = replay(grid)
        stragglers, together = _stragglers(grid, replayed)
        gaps += _doubts(record, replayed, waits_known)
    elif len(ranks) > 1:
        gaps.append(
            f"{common} timed steps are common to the ranks, {policy.MIN_STEPS} are needed: no "
            "rank can be told to be slow"
        )
    else:
        gaps.append("one rank left data: there is nothing to compare it with")
    there = {one.rank for one in ranks}.union(record.unreadable)
    return RanksFindings(
        world_size=world_size,
        ranks=ranks,
        missing=tuple(rank for rank in range(world_size) if rank not in there),
        unreadable=record.unreadable,
        died=_died(ranks),
        step=_across([one.step_ns for one in ranks]),
        own=_across([one.own_ns for one in ranks]),
        wait=_across([one.wait_ns for one in ranks]),
        stages={stage: _across([one.stages[stage] for one in ranks]) for stage in STAGES},
        waits_known=waits_known,
        replay=replayed,
        stragglers=stragglers,
        recovered_share=together,
        gaps=tuple(gaps),
    )


def _stragglers(grid: RankGrid, replayed: Replay) -> tuple[tuple[Straggler, ...], Estimate | None]:
    """The ranks that stand out, costliest first, and what they cost together."""
    excess = measure_excess(grid)
    step_ns = replayed.step_ns
    named: dict[int, Stage | None] = {}
    for row in np.flatnonzero(excess.mean_ns.sum(axis=1) > 0).tolist():
        found, stage = _slow_stage(excess, row, step_ns)
        if found and waits_less_than_others(grid, row):
            named[row] = stage
    stragglers = []
    for row, stage in named.items():
        won, blame = recovered(grid, [row], stage)
        stragglers.append(
            Straggler(
                rank=grid.ranks[row],
                stage=stage,
                longer_share=longer_share(excess, row, stage),
                excess_share=share_of_excess(excess, row, stage),
                recovered_share=won,
                lost_share=_at_most_all(blame),
                without_ns=step_ns * (1 - won.value),
            )
        )
    stragglers.sort(key=lambda one: (-one.recovered_share.value, -one.excess_share.value, one.rank))
    together = recovered(grid, list(named), None)[0] if len(named) > 1 else None
    return tuple(stragglers), together


def _slow_stage(excess: Excess, row: int, step_ns: float) -> tuple[bool, Stage | None]:
    """Whether a rank is slow step after step, and in which stage; None for several."""
    mean = excess.mean_ns[row]
    column = int(mean.argmax())
    stage: Stage | None = STAGES[column]
    spread = float(excess.spread_ns[column])
    if not _stands_out(excess, row, stage, step_ns, spread) or 2 * mean[column] < mean.sum():
        stage = None
        if not _stands_out(excess, row, None, step_ns, excess.total_spread_ns):
            return False, None
    # What it takes longer in one stage it may save in another: then nobody waits for it.
    total = share_of_excess(excess, row, None)
    return total.low is not None and total.low > 0, stage


def _stands_out(
    excess: Excess, row: int, stage: Stage | None, step_ns: float, spread_ns: float
) -> bool:
    mean = excess.mean_ns[row]
    value = float(mean.sum() if stage is None else mean[STAGES.index(stage)])
    limit = max(policy.SLOW_RANK_SHARE * step_ns, policy.SLOW_RANK_SPREADS * spread_ns)
    if value < limit:  # spares a thousand ranks their intervals
        return False
    share = share_of_excess(excess, row, stage)
    return share.low is not None and share.low * step_ns >= limit


def _at_most_all(share: Estimate) -> Estimate:
    """A share of what is lost: no rank costs more than all of it, whatever the noise says."""
    low, high = share.low, share.high
    return Estimate(
        min(share.value, 1.0),
        None if low is None else min(low, 1.0),
        None if high is None else min(high, 1.0),
        share.blocks,
    )


def _doubts(record: RanksRecord, replayed: Replay, waits_known: bool) -> list[str]:
    """What the reader must know before believing who is to blame."""
    gaps = []
    if not waits_known:
        gaps.append(
            "waiting in collectives was not recorded by all ranks, or never happened on the "
            "host: all of backward counts as waiting, so a rank that is slow in backward is not "
            "told from one that is kept waiting in it, and nobody is named there"
        )
    if abs(replayed.error_share) > policy.REPLAY_ERROR_SHARE:
        gaps.append(
            "the step that the ranks' own work makes differs by "
            f"{100 * abs(replayed.error_share):.0f} % from the measured one: they do not wait "
            "for each other at every step, or not only in what was watched"
        )
    restarts = Counter(one.restart for one in record.ranks)
    if len(restarts) > 1:
        (most, _), *others = restarts.most_common()
        counts = ", ".join(f"{count} of restart {restart}" for restart, count in others)
        gaps.append(f"most ranks are of restart {most}, but {counts}: were they together?")
    launches = {one.manifest.rank.launch for one in record.ranks if one.manifest.rank}
    if len(launches) > 1:
        gaps.append(f"the ranks come from {len(launches)} launches: they never ran together")
    return gaps


def _world_size(record: RanksRecord, gaps: list[str]) -> int:
    sizes = Counter(one.manifest.rank.world_size for one in record.ranks if one.manifest.rank)
    seen = max([*(one.rank for one in record.ranks), *record.unreadable]) + 1
    if not sizes:
        gaps.append("no rank says how many were launched: those that left data are counted")
        return seen
    if len(sizes) > 1:
        gaps.append(f"the ranks were told different world sizes: {sorted(sizes)}")
    return max(sizes.most_common(1)[0][0], seen)


def _died(ranks: tuple[RankFinding, ...]) -> tuple[int, ...]:
    """Ranks that ended otherwise than most; none while all of them may still run."""
    endings = Counter(one.ended for one in ranks if one.ended is not None)
    if not endings:
        return ()
    common: str | None = COMPLETED
    if COMPLETED not in endings:
        (common, most), *others = endings.most_common()
        if others and others[0][1] == most:  # of two, both are told with their end
            common = None
    return tuple(one.rank for one in ranks if one.ended in (None, KILLED) or one.ended != common)


def _finding(record: RankRecord, grid: RankGrid | None) -> RankFinding:
    summary = record.summary
    steps = summary.steps
    rows = active_rows(steps)
    step_ns, wait_ns, own_ns = None, None, None
    stages: dict[Stage, float | None] = dict.fromkeys(STAGES)
    if rows.size:
        wait = steps.collective_wait_ns
        columns = [*steps.stage_ns[rows].T, steps.step_ns[rows]]
        columns += [] if wait is None else [wait[rows]]
        values: Values = np.stack(columns, axis=1).astype(np.float64)
        medians = weighted_median(values, summary.stands_for[rows].astype(np.float64)).tolist()
        seen: list[bool] = np.any(steps.marked[rows], axis=0).tolist()
        stages = {
            stage: medians[column] if seen[column] else None for column, stage in enumerate(STAGES)
        }
        step_ns = medians[len(STAGES)]
        wait_ns = None if wait is None else medians[-1]
    if grid is not None and record.rank in grid.ranks:
        row = grid.ranks.index(record.rank)
        valid = np.flatnonzero(grid.valid[row])
        own = grid.own_ns[row, valid].sum(axis=1)
        own_ns = float(weighted_median(own[:, None], grid.weight[valid])[0])
    return RankFinding(
        rank=record.rank,
        restart=record.restart,
        steps=summary.count,
        step_ns=step_ns,
        own_ns=own_ns,
        stages=stages,
        wait_ns=wait_ns,
        ended=record.manifest.ended,
    )


def _across(medians: list[float | None]) -> Spread | None:
    known = [median for median in medians if median is not None]
    if not known:
        return None
    low, middle, high = np.quantile(known, (0.0, 0.5, 1.0)).tolist()
    return Spread(low, middle, high)
