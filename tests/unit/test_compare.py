from dataclasses import replace
from typing import Any

import pytest

from conftest import make_run, make_steps
from profkit.analyze.compare import compare, contention, unknown_contention
from profkit.schema.findings import Contention, Estimate
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage


def test_runs_that_took_turns_are_compared_block_by_block() -> None:
    drift = [100 * 3 ** (i // 10) for i in range(80)]
    base = make_run(make_steps({Stage.FORWARD: drift}, 80, block=10), name="a", group="g")
    faster = [value // 4 for value in drift]
    other = make_run(make_steps({Stage.FORWARD: faster}, 80, block=10), name="b", group="g")
    found = compare(base, other)
    assert found is not None
    assert found.speedup.value == pytest.approx(4)
    assert (found.base, found.other, found.speedup.blocks) == ("a", "b", 8)
    assert found.base_step_ns / found.other_step_ns == pytest.approx(found.speedup.value)


def test_runs_that_did_not_take_turns_are_not_compared() -> None:
    steps = make_steps({Stage.FORWARD: 10}, 80, block=10)
    assert compare(make_run(steps), make_run(steps)) is None
    assert compare(make_run(steps, group="g"), make_run(steps, group="h")) is None


def test_a_run_cut_short_is_compared_over_the_blocks_that_both_have() -> None:
    base = make_run(make_steps({Stage.FORWARD: 20}, 80, block=10), group="g")
    other = make_run(make_steps({Stage.FORWARD: 10}, 55, block=10), group="g")
    found = compare(base, other)
    assert found is not None
    assert (found.speedup.value, found.speedup.blocks) == (pytest.approx(2), 6)


def test_contention_is_the_growth_of_the_models_stages() -> None:
    model = {Stage.FORWARD: 10, Stage.BACKWARD: 10, Stage.OPTIMIZER: 10}
    run = make_run(
        make_steps({Stage.DATALOADER: 5, **dict.fromkeys(model, 30)}, 80, block=10),
        loader=LoaderFacts("dataloader", 64, 2, 2),
    )
    alone = make_steps({Stage.DATALOADER: 500, **model}, 80, block=10)
    run = replace(run, manifest=replace(run.manifest, group="g"))
    found = contention(replace(run, reference=alone))
    assert found is not None
    assert (found.growth.value, found.growth.blocks) == (pytest.approx(3), 8)
    assert (found.workers, found.threads, found.cores) == (2, 2, 2)
    assert (found.model_ns, found.model_alone_ns) == (pytest.approx(90), pytest.approx(30))
    assert contention(run) is None


WORKERS = LoaderFacts("dataloader", 64, 2, 2)
F, B, O = Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER  # noqa: E741


def beside(
    with_workers: dict[Stage, Any], alone: dict[Stage, Any], steps: int = 40
) -> Contention | None:
    """What a run shows beside a reference of a process of its own."""
    run = make_run(make_steps({Stage.DATALOADER: 5, **with_workers}, 80, block=10), loader=WORKERS)
    return contention(replace(run, reference=make_steps({Stage.DATALOADER: 50, **alone}, steps)))


def test_a_reference_of_another_process_is_compared_as_a_whole() -> None:
    """Its one long epoch pairs with none of the run's eight, whose phases are all part of it."""
    phases = [10_000] * 40 + [50_000] * 40
    found = beside({F: phases, B: 20_000, O: 5_000}, {F: 1_000, B: 20_000, O: 5_000})
    assert found is not None
    grown = {one.stage: one for one in found.stages}
    assert [(one.with_ns, one.alone_ns) for one in found.stages] == [
        (pytest.approx(30_000), pytest.approx(1_000)),
        (pytest.approx(20_000), pytest.approx(20_000)),
        (pytest.approx(5_000), pytest.approx(5_000)),
    ]
    assert (found.model_ns, found.model_alone_ns) == (pytest.approx(55_000), pytest.approx(26_000))
    assert found.growth.low is not None
    assert 1.25 < found.growth.low < found.growth.value == pytest.approx(55 / 26)
    forward, backward = grown[F].ratio, grown[B].ratio
    assert forward.low is not None
    assert 15 < forward.low < forward.value == pytest.approx(30)
    # Two processes of identical code differ by some percent.
    assert backward.low is not None
    assert backward.high is not None
    assert backward.low < 0.98 < 1.02 < backward.high


def test_a_stage_that_was_not_seen_in_both_did_not_grow() -> None:
    found = beside({F: 30, B: 20}, {F: 10, O: 5})
    assert found is not None
    assert [one.stage for one in found.stages] == [F]
    assert found.model_ns == pytest.approx(50)


def test_a_reference_of_too_few_blocks_tells_nothing() -> None:
    assert beside({F: 30}, {F: 10}, steps=3) is None
    assert beside({F: 30}, {F: 10}, steps=4) is not None
    short = replace(make_run(make_steps({F: 30}, 80)), reference=make_steps({F: 10}, 3))
    short = replace(short, manifest=replace(short.manifest, loader=WORKERS))
    told = contention(short, Estimate(0.5, 0.4, 0.6, 8))
    assert told is not None
    assert told.is_told_by_waits
    assert told.stages == ()


def test_contention_that_nobody_measured_is_said_to_be_unknown() -> None:
    model = {Stage.FORWARD: 10, Stage.BACKWARD: 10, Stage.OPTIMIZER: 10}
    steps = make_steps(model, 80, block=10)
    run = make_run(steps, loader=LoaderFacts("dataloader", 64, 2, 2))
    said = unknown_contention(run)
    assert said is not None
    assert "(2) and intra-op threads (2) share 2 cores" in said
    assert (
        unknown_contention(make_run(steps, loader=LoaderFacts("dataloader", 64, 0, None))) is None
    )
    assert unknown_contention(make_run(steps)) is None
    environment = run.manifest.environment
    many = replace(environment, hardware=replace(environment.hardware, usable_cores=4))
    roomy = replace(run, manifest=replace(run.manifest, environment=many))
    assert unknown_contention(roomy) is None
