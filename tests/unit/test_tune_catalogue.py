"""The catalogue: what each fix declares, and for which programs there is which."""

from dataclasses import replace

import pytest

from profkit.schema.fix import TOGETHER, Fix, Knob, Same
from profkit.verify.as_it_is import PAIRS
from profkit.verify.catalogue import Ground, candidates
from profkit.verify.promise import bound
from tunings import ground

STEP = {"dataloader": 60.0, "forward": 15.0, "backward": 15.0, "optimizer": 10.0}


def on_gpu(here: Ground) -> Ground:
    return replace(here, facts=replace(here.facts, device="cuda"))


GROUNDS = [
    ground(workers=None, **STEP),
    ground(workers=0, **STEP),
    ground(workers=2, cores=8, **STEP),
    on_gpu(ground(workers=2, cores=8, **STEP)),
]


@pytest.mark.parametrize("here", GROUNDS)
def test_each_fix_declares_what_it_is(here: Ground) -> None:
    fixes = candidates(here)
    assert len({fix.name for fix in fixes}) == len(fixes)
    for fix in fixes:
        assert fix.helps, fix.name
        assert fix.source, fix.name
        assert fix.recipe, fix.name
        # To the bit, or to a tolerance that is declared: never without one.
        assert (fix.tolerance > 0) == (fix.drift > 0) == (fix.same is not Same.BITS), fix.name
        assert bound(here, fix) >= 1


def test_instances_that_share_the_memory_are_as_many_as_run() -> None:
    assert TOGETHER == PAIRS


def knobs(here: Ground) -> set[Knob]:
    return {fix.knob for fix in candidates(here)}


def values(here: Ground, knob: Knob) -> list[object]:
    return [fix.value for fix in candidates(here) if fix.knob is knob]


def test_without_a_loader_nothing_is_done_to_one() -> None:
    assert knobs(GROUNDS[0]).isdisjoint(
        {Knob.DATA, Knob.FETCH, Knob.WORKERS, Knob.PREFETCH, Knob.PERSISTENT, Knob.PIN}
    )


def test_what_the_program_has_is_no_fix() -> None:
    assert values(ground(workers=2, **STEP), Knob.WORKERS) == [0, 1]
    assert values(ground(workers=0, cores=8, **STEP), Knob.WORKERS) == [1, 2, 4, 8]
    assert values(ground(threads=2, cores=2, **STEP), Knob.THREADS) == [1]


def test_queues_are_for_workers_and_devices_for_gpus() -> None:
    queue = {Knob.PREFETCH, Knob.PERSISTENT}
    assert knobs(GROUNDS[1]).isdisjoint(queue)
    assert queue < knobs(GROUNDS[2])
    device = {Knob.PIN, Knob.CUDNN, Knob.TF32}
    assert knobs(GROUNDS[2]).isdisjoint(device)
    assert device < knobs(GROUNDS[3])
    assert Knob.THREADS not in knobs(GROUNDS[3])


def test_what_the_program_turns_by_itself_is_no_fix() -> None:
    here = GROUNDS[3]
    assert here.facts.fixes is not None
    flags = (Knob.CUDNN.value, Knob.TF32.value)
    facts = replace(here.facts, fixes=replace(here.facts.fixes, already=flags))
    assert knobs(replace(here, facts=facts)) == knobs(here) - {Knob.CUDNN, Knob.TF32}


def test_where_batches_come_from_changes_no_bit() -> None:
    loading = {Knob.DATA, Knob.FETCH, Knob.WORKERS, Knob.PREFETCH, Knob.PERSISTENT, Knob.PIN}
    found: list[Fix] = [fix for here in GROUNDS for fix in candidates(here)]
    assert all(fix.same is Same.BITS for fix in found if fix.knob in loading)
