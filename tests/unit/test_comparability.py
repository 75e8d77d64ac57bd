"""What differs between runs beside their times."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conftest import HARDWARE, make_manifest, make_run, make_steps
from profkit.analyze.comparability import find_differences
from profkit.schema.comparison import Difference
from profkit.schema.record import RunRecord
from profkit.schema.run import DataFacts, LoaderFacts, ProcessFacts
from profkit.schema.stage import Stage

ENVIRONMENT = make_manifest().environment
STEPS = make_steps({Stage.FORWARD: 1000}, 40)


def run(samples: object = 64, **changes: Any) -> RunRecord:
    counts = np.broadcast_to(np.asarray(samples, np.int64), 40).copy()
    return make_run(replace(STEPS, samples=counts), **changes)


def hardware(**changes: Any) -> dict[str, Any]:
    return {"environment": replace(ENVIRONMENT, hardware=replace(HARDWARE, **changes))}


def environment(**changes: Any) -> dict[str, Any]:
    return {"environment": replace(ENVIRONMENT, **changes)}


def machine(name: str) -> dict[str, Any]:
    return {"process": ProcessFacts(7, 1.5, name)}


MNIST = DataFacts("MNIST", "the cache", 60_000, 10_000)
GPU = hardware(gpus=("Big GPU",))
CASES: dict[str, tuple[RunRecord, RunRecord, tuple[object, object], bool]] = {
    "processor": (run(), run(**hardware(processor="Q")), ("Test processor", "Q"), True),
    "physical cores": (run(), run(**hardware(physical_cores=4)), (2, 4), True),
    "logical cores": (run(), run(**hardware(logical_cores=8)), (2, 8), True),
    "usable cores": (run(), run(**hardware(usable_cores=1)), (2, 1), True),
    "memory": (run(), run(**hardware(memory_bytes=2**35)), (2**34, 2**35), True),
    "kind of device": (run(**GPU), run(device="cuda:0", **GPU), ("cpu", "cuda"), True),
    "GPUs": (
        run(device="cuda", **GPU),
        run(device="cuda", **hardware(gpus=("Small GPU",))),
        ("Big GPU", "Small GPU"),
        True,
    ),
    "data": (run(data=MNIST), run(data=replace(MNIST, name="x")), ("MNIST", "x"), True),
    "training samples": (
        run(data=MNIST),
        run(data=replace(MNIST, train_samples=9)),
        (60_000, 9),
        True,
    ),
    "batch size": (run(64), run(128), (64, 128), True),
    "origin of the data": (
        run(data=MNIST),
        run(data=replace(MNIST, origin="y")),
        ("the cache", "y"),
        False,
    ),
    "workload": (run(workload="cnn"), run(workload="fastmlp"), ("cnn", "fastmlp"), False),
    "loader": (
        run(),
        run(loader=LoaderFacts("memory", 64, 0, None)),
        ("dataloader", "memory"),
        False,
    ),
    "loader workers": (run(), run(loader=LoaderFacts("dataloader", 64, 2, None)), (0, 2), False),
    "batch size of the loader": (
        run(),
        run(loader=LoaderFacts("dataloader", 32, 0, None)),
        (64, 32),
        False,
    ),
    "intra-op threads": (run(), run(**environment(intra_op_threads=1)), (2, 1), False),
    "inter-op threads": (run(), run(**environment(inter_op_threads=1)), (2, 1), False),
    "commit": (run(), run(**environment(commit="f00")), ("0123abc", "f00"), False),
    "system": (run(), run(**hardware(system="Other")), ("Linux", "Other"), False),
    "frequency": (run(), run(**hardware(frequency_mhz=3500.0)), (2500.0, 3500.0), False),
    "version of python": (
        run(),
        run(**environment(versions={"python": "3.12.0"})),
        ("3.11.0", "3.12.0"),
        False,
    ),
    "version of torch": (
        run(),
        run(**environment(versions={"python": "3.11.0", "torch": "2.13"})),
        (None, "2.13"),
        False,
    ),
    "machine": (run(**machine("one")), run(**machine("two")), ("A", "B"), False),
    "mean samples a step": (run(), run([64] * 36 + [32] * 4), (64.0, 60.8), False),
}


@pytest.mark.parametrize("what", CASES)
def test_each_difference_is_named_with_both_values(what: str) -> None:
    base, new, values, is_decisive = CASES[what]
    (found,) = find_differences((base, new))
    assert (found.what, found.values, found.is_decisive) == (what, values, is_decisive)
    assert find_differences((base, base)) == ()


def test_what_decides_comes_first_and_each_run_has_its_value() -> None:
    third = run(128, **environment(intra_op_threads=1))
    found = find_differences((run(), run(), third))
    assert found == (
        Difference("batch size", (64, 64, 128), True),
        Difference("intra-op threads", (2, 2, 1), False),
    )


def test_what_only_one_run_recorded_decides_nothing() -> None:
    unknown = run(device=None, **hardware(physical_cores=None))
    found = find_differences((run(), unknown))
    assert [(one.what, one.is_decisive) for one in found] == [
        ("physical cores", False),
        ("kind of device", False),
    ]
    unsized = run(-1, loader=None)
    assert not any("batch" in one.what for one in find_differences((run(), unsized)))


def test_a_batch_size_that_was_not_seen_is_the_one_that_was_stated() -> None:
    (found,) = find_differences((run(-1), run(-1, loader=LoaderFacts("dataloader", 32, 0, None))))
    assert found == Difference("batch size", (64, 32), True)


def test_batches_that_vary_alike_are_alike() -> None:
    draw = np.random.default_rng(3)
    first, second = (run(draw.integers(40, 80, 40), loader=None) for _ in range(2))
    assert not any(one.is_decisive for one in find_differences((first, second)))


def test_the_same_is_not_told_twice_where_batches_differ() -> None:
    found = find_differences((run(), run(128, loader=LoaderFacts("dataloader", 128, 0, None))))
    assert [one.what for one in found] == ["batch size"]


def test_a_little_less_memory_or_another_index_of_the_same_gpu_is_no_difference() -> None:
    base = run(device="cuda:0", **hardware(gpus=("G",)))
    assert (
        find_differences(
            (base, run(device="cuda:1", **hardware(gpus=("G",), memory_bytes=17 * 10**9)))
        )
        == ()
    )


def test_gpus_that_nobody_used_decide_nothing() -> None:
    (found,) = find_differences((run(), run(**GPU)))
    assert (found.what, found.values, found.is_decisive) == ("GPUs", ("none", "Big GPU"), False)
