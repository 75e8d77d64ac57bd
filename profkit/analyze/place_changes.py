"""Which place in a stage costs more, or less, than it did in another run."""

from collections import defaultdict
from collections.abc import Sequence

from ..schema.comparison import PlaceChange, TimeChange
from ..schema.drilldown import Cost
from ..schema.findings import RunFindings
from ..schema.stage import Stage

_PROBES = ("samples", "lines", "stacks", "torch")
"""What a reader can act on comes first: their own function, the line, the stack, the operator."""
_LEAST_SAMPLES = 2
"""A place that was seen once may as well have been seen by accident."""
_LEAST_PART = 0.1
"""Part of the stage's change from which a place is named for it."""

_Key = tuple[str, str | None]


def changed_place(
    base: RunFindings, new: RunFindings, stage: Stage, times: TimeChange
) -> PlaceChange | None:
    """The place whose cost changed most in the stage's own direction.

    A probe tells which part of a stage a place holds; the stage's mean time comes from the light
    pass. Lines move between versions of a program, so a place is known by its name and file; by
    its name alone where that is in one file only in either run, since the file may be the change.

    Returns:
        None where no probe tells, or where no place holds a tenth of the stage's change. Nor is
        one named for a data wait with loader workers: what they do is not what the loop waits.
    """
    if stage is Stage.DATALOADER and (_workers(base) or _workers(new)):
        return None
    for probe in _PROBES:
        before, after = _costs(base, stage, probe), _costs(new, stage, probe)
        # Samples need nobody to ask for them: where there are none, there was little to see.
        if (before and after) or (probe == "samples" and (before or after)):
            return _largest(before, after, stage, probe, times)
    return None


def _workers(run: RunFindings) -> int:
    return 0 if run.manifest.loader is None else run.manifest.loader.num_workers or 0


def _costs(run: RunFindings, stage: Stage, probe: str) -> list[Cost]:
    return [
        cost
        for found in run.drilldown
        if found.stage is stage and found.probe == probe
        for cost in found.costs
        if cost.self_ns is not None or cost.count >= _LEAST_SAMPLES
    ]


def _largest(
    before: Sequence[Cost], after: Sequence[Cost], stage: Stage, probe: str, times: TimeChange
) -> PlaceChange | None:
    by_name = _in_one_file(before) & _in_one_file(after)
    old, new = _by_place(before, by_name), _by_place(after, by_name)
    base_ns, new_ns = times.base_ns or 0.0, times.new_ns or 0.0
    sign = 1 if times.change_ns > 0 else -1

    def change(key: _Key) -> float:
        return sign * (_share(new, key) * new_ns - _share(old, key) * base_ns)

    # In the order in which they were found, so that the same runs name the same place.
    key = max([*new, *old], key=change)
    if change(key) < _LEAST_PART * abs(times.change_ns):
        return None
    shown = (new if sign > 0 and key in new else old if key in old else new)[key]
    return PlaceChange(
        stage=stage,
        probe=probe,
        name=shown[0].name,
        source=shown[0].source,
        base_ns=_share(old, key) * base_ns if key in old else None,
        new_ns=_share(new, key) * new_ns if key in new else None,
    )


def _in_one_file(costs: Sequence[Cost]) -> set[str]:
    """Names that at most one file has; names that the costs do not have are not in it."""
    files: defaultdict[str, set[str | None]] = defaultdict(set)
    for cost in costs:
        files[cost.name].add(_file(cost))
    return {name for name, where in files.items() if len(where) == 1}


def _by_place(costs: Sequence[Cost], by_name: set[str]) -> dict[_Key, list[Cost]]:
    places: dict[_Key, list[Cost]] = {}
    for cost in costs:
        key = (cost.name, None if cost.name in by_name else _file(cost))
        places.setdefault(key, []).append(cost)
    return places


def _share(places: dict[_Key, list[Cost]], key: _Key) -> float:
    return sum(cost.share for cost in places.get(key, ()))


def _file(cost: Cost) -> str | None:
    return None if cost.source is None else cost.source.rpartition(":")[0]
