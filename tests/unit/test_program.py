from pathlib import Path

import pytest
import torch

from conftest import Gathered
from profkit.probe.marks import StageClock
from profkit.schema.stage import STAGES, Stage
from profkit.workloads.mnist import open_dataset
from profkit.workloads.mnist_files import locate
from profkit.workloads.models import WORKLOADS
from profkit.workloads.program import Program, Source
from profkit.workloads.sources import MemorySource, dataloader_source


class Batches:
    def __init__(self, count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self._batches = [
            (torch.randn(16, 1, 28, 28, generator=generator), torch.arange(16) % 10)
            for _ in range(count)
        ]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._batches)


def losses(program: Program, clock: StageClock, steps: int) -> list[float]:
    found = []
    while len(found) < steps:
        program.run(clock, 1)
        assert program.last_loss is not None
        found.append(program.last_loss.item())
    return found


def clock() -> StageClock:
    return StageClock(Gathered())


def test_a_run_ends_with_the_epoch_and_goes_on_with_the_next(gathered: Gathered) -> None:
    program = Program(WORKLOADS["fastmlp"], Batches(5), "cpu", seed=0)
    watch = StageClock(gathered)
    assert [program.run(watch, 3) for _ in range(4)] == [3, 2, 3, 2]
    watch.flush()
    marked = gathered.steps.marked
    assert len(gathered.steps) == 10
    seen = [stage for row, stage in enumerate(STAGES) if marked[:, row].all()]
    assert seen == [stage for stage in STAGES if stage is not Stage.TRANSFER]
    assert not marked[:, STAGES.index(Stage.TRANSFER)].any()  # on a CPU nothing is copied
    assert gathered.steps.samples.tolist() == [16] * 10


def test_the_seed_decides_the_weights_and_the_global_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    runs = [
        losses(Program(WORKLOADS["fastmlp"], Batches(5), "cpu", seed), clock(), 4)
        for seed in (1, 1, 2)
    ]
    assert torch.equal(before, torch.get_rng_state())
    assert runs[0] == runs[1] != runs[2]


def test_in_memory_the_training_is_the_same_to_the_bit(mnist_dir: Path, tmp_path: Path) -> None:
    dataset = open_dataset(locate(mnist_dir, cache_dir=tmp_path), train=True)
    sources: list[Source] = [
        dataloader_source(dataset, 512, 0, seed=7),
        MemorySource(dataset, 512, seed=7),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        from_loader, from_memory = (
            losses(Program(WORKLOADS["fastmlp"], source, "cpu", 7), clock(), 12)
            for source in sources
        )
    finally:
        torch.set_num_threads(threads)
    assert from_loader == from_memory
    assert from_loader[-1] < from_loader[0]


def test_watching_changes_no_result() -> None:
    watched = losses(Program(WORKLOADS["fastmlp"], Batches(6), "cpu", 3), clock(), 6)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = WORKLOADS["fastmlp"].model()
    optimizer = WORKLOADS["fastmlp"].optimizer(model.parameters())
    plain = []
    for x, y in Batches(6):
        loss = WORKLOADS["fastmlp"].loss(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        plain.append(loss.item())
    assert watched == plain


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none here")
def test_on_a_gpu_copies_are_marked_and_blocks_are_drained(gathered: Gathered) -> None:
    from profkit.schema.steps import Flag

    watch = StageClock(gathered)
    program = Program(WORKLOADS["fastmlp"], Batches(8), "cuda", seed=0)
    program.run(watch, 8)
    watch.flush()
    assert gathered.steps.marked[:, STAGES.index(Stage.TRANSFER)].all()
    drained = (gathered.steps.flags & int(Flag.DRAIN)) != 0
    assert drained.tolist() == [False] * 7 + [True]
