"""A real launch of two ranks on a CPU, one of them slow to load its data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

SCRIPT = """
import os, sys, time
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)


class Slow(Dataset):
    def __len__(self):
        return 480

    def __getitem__(self, item):
        if rank == 1:
            time.sleep(0.002)
        return torch.randn(32), item % 2


model = nn.parallel.DistributedDataParallel(nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
steps = 0
for epoch in range(2):
    for x, y in DataLoader(Slow(), batch_size=8):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        if rank == 1 and "--die" in sys.argv and steps == 100:
            os.kill(os.getpid(), 9)
total = sum(p.sum().item() for p in model.parameters()).hex()
# In one piece: both ranks write to the same pipe.
os.write(1, f"{rank} {steps} {total}\\n".encode())
dist.destroy_process_group()
"""


def launch(place: Path, *arguments: str, observed: bool = True) -> subprocess.CompletedProcess[str]:
    (place / "train.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--standalone"]
    command += ["-m", "profkit", "run", "--out", "out"] if observed else []
    return subprocess.run(
        [*command, "train.py", *arguments],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )


def report(place: Path) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "profkit", "report", "out", "--format", "json"],
        cwd=place,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, object] = json.loads(done.stdout)
    return content


def test_the_rank_that_loads_slowly_is_named_and_not_the_one_that_waits(tmp_path: Path) -> None:
    alone = launch(tmp_path, observed=False)
    done = launch(tmp_path)
    assert (alone.returncode, done.returncode) == (0, 0), done.stderr
    # The same weights to the bit on both ranks, with and without profkit.
    assert sorted(done.stdout.split("\n")) == sorted(alone.stdout.split("\n"))
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["rank-0", "rank-1"]
    ranks = report(tmp_path)["ranks"]
    straggler = ranks["stragglers"][0]  # type: ignore[index]
    assert (straggler["rank"], straggler["stage"]) == (1, "dataloader")
    # Rank 0 is kept waiting in its backward, which is long and yet not slow.
    assert len(ranks["stragglers"]) == 1  # type: ignore[index]
    assert "rank 1 is the straggler: its data wait is" in done.stderr


def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    done = launch(tmp_path, "--die")
    assert done.returncode != 0
    found = report(tmp_path)
    assert 1 in found["ranks"]["died"]  # type: ignore[index]
    assert found["runs"][0]["steps"]["count"] > 0  # type: ignore[index]


@pytest.mark.parametrize("again", [["--force"], []])
def test_another_launch_into_the_same_directory_wants_force(
    again: list[str], tmp_path: Path
) -> None:
    (tmp_path / "one.py").write_text("import torch\n")
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "profkit", "run", "--out", "out"]
    codes = []
    for extra in ([], again):
        done = subprocess.run(
            [*command, *extra, "one.py"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        codes.append(done.returncode)
    assert codes == [0, 0 if again else 2], done.stderr
    if not again:
        assert "rank-0 already exists: choose another path, or pass --force" in done.stderr
