from dataclasses import replace

import pytest

from conftest import make_run, make_steps
from profkit.analyze.compare import compare, contention, unknown_contention
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
    found = contention(replace(run, reference=alone))
    assert found is not None
    assert found.growth.value == pytest.approx(3)
    assert (found.workers, found.threads, found.cores) == (2, 2, 2)
    assert (found.model_ns, found.model_alone_ns) == (pytest.approx(90), pytest.approx(30))
    assert contention(run) is None


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
