"""A real loop whose workers take its cores: `profkit run` says so, and `profkit trace` how much."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from observed import Observed
from profkit import api
from profkit.schema.findings import Report, RunFindings
from profkit.schema.stage import Stage

pytestmark = pytest.mark.alone

TWO_CORES = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []


def observed(directory: Path, kind: str) -> RunFindings:
    """Three workers that pay for their batches beside a model of two threads, on two cores."""
    run = directory / "run"
    order = [sys.executable, "-m", "profkit", "run", "--quiet", "--warmup", "5", "--out", str(run)]
    loop = ["-m", "experiments.truth.loop", "--truth", str(directory / "truth.json")]
    loop += ["--cost", f"data:{kind}", "--workers", "3", "--threads", "2"]
    loop += ["--width", "512", "--batch", "64", "--seconds", "4"]
    subprocess.run(
        [*order, *loop],
        check=True,
        timeout=120,
        preexec_fn=lambda: os.sched_setaffinity(0, TWO_CORES),
    )
    (found,) = api.report(run).runs
    return found


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    if len(TWO_CORES) < 2 or not Path("/proc/thread-self/schedstat").exists():
        pytest.skip("needs two cores, and Linux' account of what a thread waits for one")
    return lambda: tmp_path_factory.mktemp("run")


def test_workers_that_take_the_loops_cores_are_seen_by_its_waits_for_one(
    place: Callable[[], Path],
) -> None:
    found = observed(place(), "spin:10")
    assert found.verdicts[0].kind == "contended"
    assert not any("not known without the same loop" in gap for gap in found.gaps)
    text = api.render_report(Report(None, (found,)))
    assert "end of the step the loop waits for a core" in text


def test_workers_that_sleep_take_none(place: Callable[[], Path]) -> None:
    # Another program that takes the cores for a while does so from both of a pair.
    pairs = []
    for _ in range(3):
        spinning = observed(place(), "spin:10").core_wait
        sleeping = observed(place(), "sleep:40").core_wait
        assert spinning is not None
        assert sleeping is not None
        pairs.append((spinning.value, sleeping.value))
        if sleeping.value < spinning.value / 2:
            break
    assert any(sleeping < spinning / 2 for spinning, sleeping in pairs), pairs


SCRIPT = """
import time
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

def spin(seconds):
    end = time.thread_time() + seconds  # so much work, however long it takes
    while time.thread_time() < end:
        pass

class Items(Dataset):
    def __len__(self):
        return 4_000
    def __getitem__(self, index):
        assert get_worker_info() is not None or not NEEDS_WORKERS, "where are they?"
        spin(COST)
        return torch.zeros(8)

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
    def forward(self, x):
        spin(COST)
        return self.linear(x).square().mean()

torch.set_num_threads(2)
model = Model()
DataLoader.check_worker_number_rationality = lambda loader: None  # warns of four
loader = DataLoader(Items(), batch_size=4, num_workers=4)
for x in loader:
    model(x).backward()  # no optimizer: it imports torch._dynamo, which takes a second
    model.zero_grad()
"""
SAID = "profkit: train.py runs again for each probe (lines)"


def traced(place: Path, probe: str, *, cost: float, needs_workers: bool) -> tuple[str, RunFindings]:
    """What `profkit trace` says on the way, and finds, on two cores; nothing is left behind."""
    scripts = Observed(place / "project")
    values = f"COST, NEEDS_WORKERS = {cost}, {needs_workers}"
    scripts.write("train.py", values + SCRIPT)
    start = f"import os; os.sched_setaffinity(0, {TWO_CORES}); from profkit.cli import main; "
    driver = ("-c", start + "main('profkit')", "trace", "--out", "traced", "--force")
    seen = scripts.profkit("--steps", "40", "--probe", probe, "--", "train.py", driver=driver)
    assert seen.code == 0, seen.stderr
    assert not list(place.glob(".profkit-*"))
    (run,) = api.report(scripts.directory / "traced").runs
    passes = scripts.directory / "traced" / "train" / "passes"
    assert [one.name for one in passes.glob("*/")] == (["lines"] if probe == "lines" else [])
    return seen.stderr, run


def test_a_traced_script_runs_once_without_workers_to_tell_what_they_cost(
    place: Callable[[], Path],
) -> None:
    said, run = traced(place(), "lines", cost=0.01, needs_workers=False)
    assert f"{SAID} and once without loader workers, a few steps each, in a copy" in said
    assert [line for line in said.splitlines() if line.endswith(" pass")] == [
        "profkit: reference pass",
        "profkit: lines pass",
    ]
    assert run.verdicts[0].kind == "contended"
    evidence = {one.name: one for one in run.verdicts[0].evidence}
    assert evidence["forward_growth"].value > 1.25
    text = api.render_report(Report(None, (run,)))
    assert ": forward takes " in text
    assert " ms, without workers " in text
    (seen,) = [one for one in run.manifest.probes if one.name == "reference"]
    assert (seen.gap, seen.steps >= 20) == (None, True)
    # There the loop makes its batches: four times what the forward pass costs, beside that.
    assert run.contention is not None
    (forward,) = [one for one in run.contention.stages if one.stage is Stage.FORWARD]
    assert seen.step_ns is not None
    assert seen.step_ns > 2 * forward.alone_ns


def test_a_script_that_cannot_do_without_workers_is_traced_all_the_same(
    place: Callable[[], Path],
) -> None:
    where = place()
    said, run = traced(where, "lines", cost=0.0, needs_workers=True)
    assert f"{SAID} and once without loader workers" in said
    (gap,) = [gap for gap in run.gaps if gap.startswith("pass without loader workers: ")]
    assert gap.endswith("the pass ended with 1: AssertionError: where are they?")
    assert any(found.probe == "lines" and found.costs for found in run.drilldown)
    said, run = traced(where, "none", cost=0.0, needs_workers=True)
    assert said == ""  # only the times are wanted
    assert not any(one.name == "reference" for one in run.manifest.probes)
