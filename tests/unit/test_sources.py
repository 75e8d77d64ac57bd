import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from profkit.workloads.mnist import MNIST, open_dataset
from profkit.workloads.mnist_files import DataFiles, locate
from profkit.workloads.sources import EpochShuffle, MemorySource, dataloader_source


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> DataFiles:
    """Real MNIST where it is at hand, else a few drawn digits."""
    from profkit.workloads import mnist_files

    with pytest.MonkeyPatch.context() as patch:
        import os

        if not os.environ.get("PROFKIT_DATA"):
            patch.setattr(mnist_files, "TRAIN_SAMPLES", 1000)
            patch.setattr(mnist_files, "TEST_SAMPLES", 100)
        return locate(cache_dir=tmp_path_factory.mktemp("cache"), allow_download=False)


@pytest.fixture(scope="module")
def dataset(files: DataFiles) -> MNIST:
    full = open_dataset(files, train=True)
    full.data, full.targets = full.data[:1000], full.targets[:1000]
    return full


def test_both_sources_give_the_same_batches_to_the_bit(dataset: MNIST) -> None:
    loader = dataloader_source(dataset, 128, 0, seed=3)
    memory = MemorySource(dataset, 128, seed=3)
    assert len(loader) == len(memory) == 8
    orders = []
    for _ in range(2):
        pairs = list(zip(loader, memory, strict=True))
        assert [len(x) for (x, _), _ in pairs] == [128] * 7 + [104]
        for (x, y), (mx, my) in pairs:
            assert torch.equal(x, mx)
            assert torch.equal(y, my)
        orders.append([int(label) for (_, y), _ in pairs for label in y])
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


def test_workers_give_the_same_batches(dataset: MNIST) -> None:
    alone = [y for _, y in dataloader_source(dataset, 256, 0, seed=1)]
    shared = [y for _, y in dataloader_source(dataset, 256, 2, seed=1)]
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    first, again, other = EpochShuffle(50, 1), EpochShuffle(50, 1), EpochShuffle(50, 2)
    assert list(first) == list(again)
    assert list(first) == list(again)
    assert list(other) != list(EpochShuffle(50, 1))
    assert sorted(first) == list(range(50))


def test_no_global_random_stream_is_touched(dataset: MNIST) -> None:
    def states() -> list[object]:
        numpy_state = np.random.get_state()
        return [torch.get_rng_state().tolist(), numpy_state[1].tolist(), random.getstate()]

    before = states()
    for source in (dataloader_source(dataset, 500, 0, 5), MemorySource(dataset, 500, 5)):
        for _ in source:
            pass
    for _ in dataloader_source(dataset, 500, 1, 5):
        pass
    assert states() == before


def test_a_legacy_folder_that_nobody_checked_is_not_read(files: DataFiles, tmp_path: Path) -> None:
    shutil.copytree(files.root / "MNIST" / "raw", tmp_path / "MNIST" / "raw")
    legacy = tmp_path / "MNIST" / "processed"
    legacy.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((torch.zeros(5, 28, 28).byte(), torch.zeros(5).long()), legacy / name)
    found = open_dataset(DataFiles("MNIST", tmp_path, "a test"), train=False)
    assert len(found) == len(open_dataset(files, train=False)) != 5


def test_spawned_workers_find_the_dataset(files: DataFiles, tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        f"""
from pathlib import Path
from torch.utils.data import DataLoader, Subset
from profkit.workloads.mnist import open_dataset
from profkit.workloads.mnist_files import DataFiles

if __name__ == "__main__":
    files = DataFiles("MNIST", Path({str(files.root)!r}), "a test")
    dataset = Subset(open_dataset(files, train=False), range(20))
    loader = DataLoader(dataset, 10, num_workers=1, multiprocessing_context="spawn")
    print([tuple(x.shape) for x, _ in loader])
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.stdout.strip() == "[(10, 1, 28, 28), (10, 1, 28, 28)]", done.stderr
