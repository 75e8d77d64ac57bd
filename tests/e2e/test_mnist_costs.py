"""What the built-in MNIST programs cost, by profkit's own assertions; ratios only.

On a machine whose cores are taken by others an assertion may be inconclusive, which warns;
`--profkit-inconclusive=fail` is stricter.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch

import profkit
from profkit.workloads.mnist import MNIST, open_dataset
from profkit.workloads.mnist_files import locate
from profkit.workloads.models import WORKLOADS, Workload
from profkit.workloads.sources import MemorySource, dataloader_source

pytestmark = [pytest.mark.alone, pytest.mark.profkit(timeout_s=30)]
SAME = 1.1
"""Stages of the same work differ by less than that, caches and noise included."""
Measure = Callable[..., profkit.Measurement]


@pytest.fixture(scope="module")
def digits() -> MNIST:
    try:
        files = locate(None, allow_download=False)
    except profkit.ProfkitError as error:
        pytest.skip(f"needs real MNIST: {error}")
    return open_dataset(files, train=True)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Intra-op threads that were asleep while data was made take a while to be awake again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(workload: Workload) -> Callable[[Any], None]:
    model = workload.model()
    optimizer = workload.optimizer(model.parameters())

    def train(batch: Any) -> None:
        images, labels = batch
        workload.loss(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


class MadeInVain:
    """The batches of a source, after a DataLoader has made as many, which nobody uses."""

    def __init__(self, made: Iterable[Any], used: Iterable[Any]) -> None:
        self._made, self._used = made, used

    def __iter__(self) -> Iterator[Any]:
        for _, batch in zip(self._made, self._used, strict=True):
            yield batch


def test_the_baseline_waits_for_data_and_memory_is_three_times_as_fast(
    digits: MNIST, profkit_measure: Measure
) -> None:
    workload = WORKLOADS["fastmlp"]
    train = trainer(workload)
    size = workload.batch_size
    loader = dataloader_source(digits, size, 0, seed=0)
    baseline = profkit_measure(train, loader, steps=40, name="baseline")
    memory = profkit_measure(train, MemorySource(digits, size, seed=0), steps=40, name="memory")
    profkit.assert_dominant(baseline, "dataloader")
    profkit.assert_share(baseline, "dataloader", above=0.5)
    profkit.assert_ratio(memory, baseline, below=1 / 3)
    assert memory.step_time * 3 < baseline.step_time


@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_a_cnn_computes_alike_from_either_source(
    digits: MNIST, profkit_measure: Measure, stage: str
) -> None:
    workload = WORKLOADS["cnn"]
    train = trainer(workload)
    size = workload.batch_size
    loader = dataloader_source(digits, size, 0, seed=0)
    baseline = profkit_measure(train, loader, steps=20, name="baseline")
    memory = profkit_measure(train, MemorySource(digits, size, seed=0), steps=20, name="memory")
    profkit.assert_ratio(baseline, memory, stage=stage, below=SAME, above=1 / SAME)


@pytest.mark.parametrize("stage", ["forward", "backward"])
def test_a_small_network_computes_alike_once_the_data_is_made_for_either(
    digits: MNIST, profkit_measure: Measure, stage: str
) -> None:
    # Making a batch leaves FastMLP's caches cold: by itself its forward is a quarter slower beside
    # a DataLoader than from memory. With batches made in vain the memory variant has that as well.
    workload = WORKLOADS["fastmlp"]
    train = trainer(workload)
    size = workload.batch_size
    loader = dataloader_source(digits, size, 0, seed=0)
    baseline = profkit_measure(train, loader, steps=20, name="baseline")
    source = MadeInVain(dataloader_source(digits, size, 0, seed=0), MemorySource(digits, size, 0))
    memory = profkit_measure(train, source, steps=20, name="memory, with batches made in vain")
    profkit.assert_ratio(baseline, memory, stage=stage, below=SAME, above=1 / SAME)
