"""The ranks of one launch as a table and sentences."""

from collections.abc import Iterable, Sequence

from ..diagnose import policy
from ..schema.estimate import Estimate
from ..schema.ranks import RankFinding, RanksFindings, Replay, Spread, Straggler
from ..schema.stage import STAGES
from .tables import Table
from .units import ABSENT, milliseconds, one_line, percent, percent_interval, plural, significant

_ALL_SHOWN = 16
"""Up to so many ranks each has its row; of more, the extremes."""
_EXTREMES = 3
_NAMED = 6
_NO_JITTER_SHARE = 0.001


def rank_table(found: RanksFindings) -> Table:
    """Medians of each rank, or of those that stand out among many, and the spread of all."""
    shown = found.ranks if len(found.ranks) <= _ALL_SHOWN else _outstanding(found)
    seen = [stage for stage in STAGES if found.stages[stage] is not None]
    slow = {one.rank for one in found.stragglers or ()}
    own = "own work" if found.waits_known else "own work but backward"
    rows = [
        (
            f"{one.rank}, slow" if one.rank in slow else str(one.rank),
            *map(_cell, (one.own_ns, one.step_ns, *(one.stages[stage] for stage in seen))),
            _cell(one.wait_ns),
            str(one.steps),
        )
        for one in shown
    ]
    spreads = (found.own, found.step, *(found.stages[stage] for stage in seen), found.wait)
    for name, pick in (("lowest", _low), ("median", _middle), ("highest", _high)):
        rows.append((name, *(_cell(None if one is None else pick(one)) for one in spreads), ""))
    title = f"Ranks: median ms a step of {len(shown)} of {found.world_size}"
    if len(shown) < len(found.ranks):
        title += ": the slow, the slowest, the fastest and the first"
    note = "A stage holds the wait in collectives that lies in it; own work does not."
    if not found.waits_known:
        note = "Waiting in collectives was not recorded."
    head = ("rank", own, "step", *(stage.label for stage in seen), "collective wait", "steps")
    return Table(title, head, tuple(rows), (False, *(True for _ in head[1:])), note)


def rank_sentences(found: RanksFindings) -> tuple[str, ...]:
    """Who stands out, what unequal ranks cost, who died and who left nothing."""
    lines = []
    replay, stragglers = found.replay, found.stragglers or ()
    if replay is not None:
        lines += [straggler_sentence(one, found, replay) for one in stragglers[:_NAMED]]
        if len(stragglers) > _NAMED:
            rest = [one.rank for one in stragglers[_NAMED:]]
            lines.append(f"likewise slow: {_ranks(rest)}")
        if found.recovered_share is not None:
            won = found.recovered_share
            lines.append(
                f"{_ranks([one.rank for one in stragglers])} are slow together: without that the "
                f"step would take {_instead(won, replay)}"
            )
        if not stragglers:
            lines.append(f"no rank stands out over {plural(replay.steps, 'common step')}")
        lines.append(_lost_sentence(replay))
    ended = {one.rank: one.ended for one in found.ranks}
    silent = [rank for rank in found.died if ended[rank] is None]
    if silent:
        lines.append(f"{_ranks(silent)} died: no end was recorded")
    for rank in [rank for rank in found.died if ended[rank] is not None][:_NAMED]:
        lines.append(f"rank {rank} ended unlike the others: {one_line(ended[rank] or '', 80)}")
    if found.missing:
        lines.append(f"{_ranks(found.missing)} left no data")
    if found.unreadable:
        lines.append(f"{_ranks(found.unreadable)} cannot be read")
    return tuple(lines)


def _longer(share: float) -> str:
    if share < 1:
        return f"{percent(share)} longer than the other ranks' median"
    return f"{significant(1 + share)} times as long as the other ranks' median"


def straggler_sentence(one: Straggler, found: RanksFindings, replay: Replay) -> str:
    """What is slow about a rank, and what the step would take without that."""
    alone = len(found.stragglers or ()) == 1
    what = "own work" if one.stage is None else one.stage.label
    excess = one.excess_share
    if one.longer_share is None:
        longer = f"{milliseconds(excess.value * replay.step_ns)} ms longer than the other ranks'"
    else:
        longer = _longer(one.longer_share.value)
    where = "" if one.stage is not None else ", spread over its stages"
    won = one.recovered_share
    if won.value < policy.HIDDEN_SHARE * excess.value:
        return (
            f"rank {one.rank} is slow: its {what} is {longer}{where}, {percent_interval(excess)} "
            f"of the step; alone that costs {_cost(won)}, since other ranks are late as well"
        )
    return (
        f"rank {one.rank} is {'the' if alone else 'a'} straggler: its {what} is {longer}{where}; "
        f"without that the step would take {_instead(won, replay)}, "
        f"{percent(one.lost_share.value)} of the time lost to unequal ranks"
    )


def _instead(won: Estimate, replay: Replay) -> str:
    step_ns = replay.step_ns
    return (
        f"{milliseconds(step_ns * (1 - won.value))} ms instead of {milliseconds(step_ns)} "
        f"({_cost(won)})"
    )


def _cost(won: Estimate) -> str:
    return percent(max(0.0, won.value))


def _lost_sentence(replay: Replay) -> str:
    text = f"{percent_interval(replay.lost_share)} of the step is lost to unequal ranks"
    if replay.jitter_share < _NO_JITTER_SHARE:
        return text
    return f"{text}: {percent(replay.jitter_share)} because now this one is late, now that one"


def _outstanding(found: RanksFindings) -> tuple[RankFinding, ...]:
    by_work = sorted(
        (one for one in found.ranks if one.own_ns is not None), key=lambda one: one.own_ns or 0.0
    )
    named = [one.rank for one in (found.stragglers or ())[:_NAMED]]
    extremes = [one.rank for one in by_work[:_EXTREMES] + by_work[-_EXTREMES:]]
    chosen = {*named, *extremes, *found.died[:_EXTREMES], found.ranks[0].rank}
    return tuple(one for one in found.ranks if one.rank in chosen)


def _ranks(ranks: Sequence[int]) -> str:
    """Ranks in words, e.g. `ranks 3, 5 to 9`; the first of them where they are many."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    words = list(_words(runs[:_NAMED]))
    left = sum(last - first + 1 for first, last in runs[_NAMED:])
    if left:
        words.append(f"{left} more")
    return f"{'rank' if len(ranks) == 1 else 'ranks'} {', '.join(words)}"


def _words(runs: Iterable[list[int]]) -> Iterable[str]:
    for first, last in runs:
        yield str(first) if first == last else f"{first} to {last}"


def _cell(duration_ns: float | None) -> str:
    return ABSENT if duration_ns is None else milliseconds(duration_ns)


def _low(spread: Spread) -> float:
    return spread.low


def _middle(spread: Spread) -> float:
    return spread.middle


def _high(spread: Spread) -> float:
    return spread.high
