"""`profkit trace -- SCRIPT`: the light pass in place, each probe in a copy that goes away."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from observed import Observed
from profkit import api
from profkit.schema.stage import Stage
from programs import PROJECT, Ended

SCRIPT = """
import json, os, sys, time
import click  # the module beside this, which profkit must not take for its own
import torch
from torch.utils.data import DataLoader, Dataset

print(click.WHO, sys.argv[1:], os.path.basename(__file__))

class Items(Dataset):
    def __len__(self):
        return 400
    def __getitem__(self, index):
        return torch.full((8,), float(sum(range(50_000)) + index) / 1e9)

def log(loss):
    with open("log.txt", "a") as file:
        file.write(json.dumps(loss.item()) + "\\n")

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)
    def forward(self, x):
        return self.linear(x).square().mean()

torch.set_num_threads(1)
os.makedirs("out")  # as many do: a second time it fails
with open("out/runs.txt", "a") as file:
    file.write("once\\n")
model = Model()
for x in DataLoader(Items(), batch_size=4):
    loss = model(x)
    loss.backward()  # no optimizer: it imports torch._dynamo, which takes a second
    model.zero_grad()
    log(loss)
    time.sleep(PAUSE)
print("done")
"""
TRACE = ("../bin/start", "trace", "--out", "traced")


def make(place: Path, source: str = SCRIPT, pause: str = "0") -> Observed:
    scripts = Observed(place / "project")
    scripts.write("train.py", source.replace("PAUSE", pause))
    scripts.write("click.py", "WHO = 'mine'")
    # As the console script, which does not see the working directory.
    scripts.write("../bin/start", "from profkit.cli import main\nmain('profkit')")
    return scripts


def clean(scripts: Observed) -> None:
    """Nothing of a copy is left beside the project."""
    assert not list(scripts.directory.parent.glob(".profkit-*"))


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Observed, Ended]:
    scripts = make(tmp_path_factory.mktemp("traced"))
    return scripts, scripts.profkit("--", "train.py", "-x", driver=TRACE)


def test_three_probes_look_into_the_stages(traced: tuple[Observed, Ended]) -> None:
    scripts, seen = traced
    assert seen.code == 0, seen.stderr
    (run,) = api.report(scripts.directory / "traced").runs
    found = {(one.probe, one.stage): one.costs for one in run.drilldown}
    for probe in ("torch", "stacks", "lines"):
        assert found[probe, Stage.DATALOADER]
    assert any("sum(range" in cost.name for cost in found["lines", Stage.DATALOADER])
    assert any("self.linear(x)" in cost.name for cost in found["lines", Stage.FORWARD])
    assert run.manifest.ended == "completed"
    assert [gap for gap in run.gaps if "probe" in gap] == []
    assert seen.stdout.startswith("mine ['-x'] train.py\ndone\n")
    assert seen.stdout.splitlines()[-1] == "traced"


def test_it_says_that_it_runs_again_before_it_does(traced: tuple[Observed, Ended]) -> None:
    first, *passes = traced[1].stderr.splitlines()
    assert first == (
        "profkit: train.py runs again for each probe (torch, stacks, lines), a few steps each, in "
        "a copy of this directory as it was: only what it writes elsewhere is written again"
    )
    assert passes == [f"profkit: {probe} pass" for probe in ("torch", "stacks", "lines")]


def test_outputs_are_written_once_and_no_copy_stays(traced: tuple[Observed, Ended]) -> None:
    scripts, _ = traced
    clean(scripts)
    assert (scripts.directory / "out" / "runs.txt").read_text() == "once\n"
    assert len((scripts.directory / "log.txt").read_text().splitlines()) == 100


def test_places_are_named_as_in_the_directory_itself(traced: tuple[Observed, Ended]) -> None:
    scripts, seen = traced
    report = (scripts.directory / "traced" / "report.md").read_text()
    as_json = api.render_report(api.report(scripts.directory / "traced"), "json")
    for text in (report, as_json, seen.stdout, seen.stderr):
        assert ".profkit-" not in text
        assert str(scripts.directory) not in text
    assert "train.py:" in report


@pytest.mark.parametrize("way", ["absolute", "module, in place"])
def test_a_pass_finds_the_program_however_it_is_named(tmp_path: Path, way: str) -> None:
    scripts = make(tmp_path, SCRIPT.replace('os.makedirs("out")', 'os.makedirs("out", 511, True)'))
    named = {
        "absolute": ["--", str(scripts.directory / "train.py")],
        "module, in place": ["--in-place", "-m", "--", "train"],
    }[way]
    seen = scripts.profkit("--probe", "lines", *named, driver=TRACE)
    assert seen.code == 0, seen.stderr
    (run,) = api.report(scripts.directory / "traced").runs
    costs = [one for one in run.drilldown if one.probe == "lines" and one.costs]
    assert costs
    assert any("train.py" in (cost.source or "") for one in costs for cost in one.costs)
    clean(scripts)
    written = (scripts.directory / "out" / "runs.txt").read_text()
    assert written == "once\n" * (1 if way == "absolute" else 2)
    assert ("here: what it writes is written again" in seen.stderr) == (way != "absolute")


def test_a_directory_that_is_too_large_asks_for_in_place(tmp_path: Path) -> None:
    scripts = make(tmp_path)
    with (scripts.directory / "checkpoint.bin").open("wb") as file:
        file.truncate(2**30)
    seen = scripts.profkit("--", "train.py", driver=TRACE)
    assert seen.code == 0
    (line,) = seen.stderr.splitlines()
    assert "too large to copy" in line
    assert "--in-place" in line
    (run,) = api.report(scripts.directory / "traced").runs
    assert run.breakdown.steps is not None
    assert run.breakdown.steps.count > 50
    assert sum("pass --in-place" in gap for gap in run.gaps) == 3
    clean(scripts)


def test_a_program_that_fails_keeps_its_code_and_what_was_seen(tmp_path: Path) -> None:
    scripts = make(tmp_path, SCRIPT.replace('print("done")', "raise ValueError('late')"))
    seen = scripts.profkit("--probe", "none", "--", "train.py", driver=TRACE)
    assert seen.code == 1
    assert "ValueError: late\n" in seen.stderr
    assert seen.stderr.endswith("profkit: train.py ended with exit code 1\n")
    (run,) = api.report(scripts.directory / "traced").runs
    assert run.manifest.ended == "stopped by ValueError"


def test_a_program_without_training_is_no_case_for_it(tmp_path: Path) -> None:
    scripts = make(tmp_path, "print('out')")
    seen = scripts.profkit("--", "train.py", driver=TRACE)
    assert (seen.code, seen.stdout) == (2, "out\n")
    assert "never imported torch: there is nothing to trace" in seen.stderr
    assert not (scripts.directory / "traced").exists()
    scripts.write("train.py", "import torch\nprint(torch.zeros(1).item())")
    seen = scripts.profkit("--", "train.py", driver=TRACE)
    assert seen.code == 0
    assert "no training step was seen" in seen.stdout
    assert "pass" not in seen.stderr


def test_ctrl_c_in_the_middle_leaves_no_copy_and_no_child(tmp_path: Path) -> None:
    scripts = make(tmp_path, pause="0.02 * ('.profkit-' in os.getcwd())")
    process = subprocess.Popen(
        [sys.executable, *TRACE, "--probe", "lines", "--", "train.py"],
        cwd=scripts.directory,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    try:
        while "lines pass" not in (line := process.stderr.readline()):
            assert line
        until = time.monotonic() + 60
        # Until it trains in the copy.
        while not list(tmp_path.glob(".profkit-*/log.txt")) and time.monotonic() < until:
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all of them
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not [child for child in children if child.is_running()]
    clean(scripts)
    (run,) = api.report(scripts.directory / "traced").runs
    assert run.breakdown.steps is not None
