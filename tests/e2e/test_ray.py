"""A training on a local Ray cluster of two workers, one of which is slow to load its data."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from profkit import api
from profkit.errors import InputError, OutputError
from profkit.integrations.ray import observe_workers
from profkit.schema.stage import STAGES, Stage
from profkit.store.rank_directories import read_ranks
from profkit.store.run_directory import read_manifest
from programs import PROJECT

pytestmark = pytest.mark.alone

DRIVER = """
import json, os, pathlib, sys, time
scratch, place = sys.argv[1:]
import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from profkit.integrations.ray import observe_workers

def train(config):
    import torch, ray.train, ray.train.torch
    from torch.utils.data import DataLoader, Dataset
    rank = ray.train.get_context().get_world_rank()

    class Numbers(Dataset):
        def __len__(self):
            return 320
        def __getitem__(self, index):
            time.sleep(config["slow_s"] if rank == 1 else 0)
            return torch.randn(8), torch.randn(1)

    torch.set_num_threads(1)
    net = ray.train.torch.prepare_model(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    loader = ray.train.torch.prepare_data_loader(DataLoader(Numbers(), 4))
    failed_before = pathlib.Path(place, "failed-before")
    fails = not failed_before.exists()
    torch.distributed.barrier()
    failed_before.touch()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        for value, label in loader:
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(net(value), label).backward()
            if fails:
                raise ArithmeticError("the first attempt")
            optimizer.step()

ray.init(
    num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False,
    object_store_memory=10**8, _temp_dir=scratch, _node_ip_address="127.0.0.1",
)
try:
    TorchTrainer(
        observe_workers(train, "observed", warmup=4),
        train_loop_config={"slow_s": 0.002},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            storage_path=os.path.join(place, "storage"),
            failure_config=FailureConfig(max_failures=1),
        ),
    ).fit()
finally:
    ray.shutdown()
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What a run left whose rank 1 is slow; its first attempt failed in the first step."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'profkit[ray]'")
    place = tmp_path_factory.mktemp("ray")
    driver = place / "driver.py"
    driver.write_text(DRIVER)
    # The paths of its sockets must be short.
    scratch = tempfile.mkdtemp(prefix="pk-ray-", dir="/tmp")
    try:
        done = subprocess.run(
            [sys.executable, str(driver), scratch, str(place)],
            cwd=place,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env={
                **os.environ,
                "PYTHONPATH": str(PROJECT),
                "HOME": str(place),
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_AUTH_MODE": "disabled",
            },
        )
        assert done.returncode == 0, done.stderr
        yield place / "observed"
    finally:
        end_cluster(scratch)
        shutil.rmtree(scratch, ignore_errors=True)


def end_cluster(scratch: str) -> None:
    """End what Ray started and left; all of it is told this directory."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(scratch in word for word in process.cmdline()):
                left.append(process)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=10)


def test_the_slow_worker_is_found(trained: Path) -> None:
    ranks = api.report(trained).ranks
    assert ranks is not None
    assert (ranks.world_size, ranks.missing, ranks.died) == (2, (), ())
    assert ranks.stragglers is not None
    assert [(one.rank, one.stage) for one in ranks.stragglers] == [(1, Stage.DATALOADER)]


def test_every_worker_leaves_a_whole_run(trained: Path) -> None:
    ranks = read_ranks(trained).ranks
    assert [one.directory for one in ranks] == ["rank-0-restart-1", "rank-1-restart-1"]
    # 320 samples for two workers, four a batch, twice.
    assert [one.summary.count for one in ranks] == [80, 80]
    assert [one.manifest.ended for one in ranks] == ["completed"] * 2
    # The command of the process that started them, not Ray's own for its workers.
    assert all(one.manifest.command.startswith("driver.py ") for one in ranks)
    assert all(one.manifest.loader is not None for one in ranks)
    for one in ranks:
        steps = one.summary.steps
        assert steps.collective_wait_ns is not None
        for stage in (Stage.DATALOADER, Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER):
            assert steps.marked[:, STAGES.index(stage)].all()


def test_an_attempt_that_failed_is_kept_beside_the_next_one(trained: Path) -> None:
    manifests = [read_manifest(path / "run.json") for path in sorted(trained.iterdir())]
    assert [path.name for path in sorted(trained.iterdir())] == [
        "rank-0",
        "rank-0-restart-1",
        "rank-1",
        "rank-1-restart-1",
    ]
    # Ray ends the other workers as soon as it hears of the first that failed.
    assert "stopped by ArithmeticError" in [manifests[0].ended, manifests[2].ended]
    facts = [one.rank for one in manifests if one.rank is not None]
    assert [(one.rank, one.restart) for one in facts] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert len({one.launch for one in facts}) == 1


def test_wrong_orders_are_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(OutputError, match="already exists"):
        observe_workers(print, tmp_path)
    with pytest.raises(InputError, match="warmup=-1"):
        observe_workers(print, tmp_path / "run", warmup=-1)


def test_outside_of_a_worker_the_loop_just_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    loop = observe_workers(lambda configuration: configuration + 1, tmp_path / "run")
    assert loop(1) == 2
    with pytest.raises(TypeError, match="unsupported operand"):
        loop(None)
    assert "nothing is recorded" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that looks like worker 1 of 2 to whoever asks Ray."""
    context = SimpleNamespace(
        get_experiment_name=lambda: "experiment",
        get_world_rank=lambda: 1,
        get_world_size=lambda: 2,
    )
    runtime = SimpleNamespace(get_job_id=lambda: "01000000")
    ray = SimpleNamespace(get_runtime_context=lambda: runtime)
    ray.train = SimpleNamespace(get_context=lambda: context, torch=None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.train", ray.train)
    monkeypatch.setitem(sys.modules, "ray.train.torch", SimpleNamespace())


@pytest.mark.usefixtures("worker")
def test_a_launch_is_told_from_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        loop = observe_workers(dict, tmp_path / name)
        loop()
    facts = [read_ranks(tmp_path / name).ranks[0].manifest.rank for name in ("first", "second")]
    assert facts[0] is not None
    assert facts[1] is not None
    assert facts[0].launch != facts[1].launch
    assert (facts[0].rank, facts[0].world_size) == (1, 2)
    # The second run's loop where the first one wrote: nothing is mixed, nothing is lost.
    shutil.rmtree(tmp_path / "second")
    (tmp_path / "first").rename(tmp_path / "second")
    assert loop() == {}
    assert [path.name for path in (tmp_path / "second").iterdir()] == ["rank-1"]
    assert "already exists" in capsys.readouterr().err
