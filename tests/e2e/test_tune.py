"""`profkit tune` on small programs: what it proves, what it skips, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import profkit
from profkit.errors import InputError
from profkit.schema.fix import FixOrder
from profkit.scripts.target import Target
from profkit.verify.instance import Instance, LateError, Launch
from profkit.verify.tune import most_runs

pytestmark = pytest.mark.alone

PROJECT = Path(__file__).parents[2]
COMMON = """
import sys, time
import torch
from torch.utils.data import DataLoader, Dataset

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Costly(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, i):
        spin(0.0008)
        return torch.full((8,), float(i)), float(i % 3)

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 1)
    def forward(self, x):
        spin(0.001)
        return self.linear(x / 64)[:, 0]

def train(batches, net, epochs=10**6):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for epoch in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            (net(x) - y).square().mean().backward()
            optimizer.step()
        open("left.txt", "a").write("epoch")

torch.manual_seed(0)
torch.set_num_threads(1)
batch = [(torch.ones(8, 8), torch.ones(8))] * 64
"""
LOADER = "train(DataLoader(Costly(), batch_size=8, shuffle=True), Net())\n"
PICKY = """
class Picky(Net):
    def forward(self, x):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("not under autocast")
        return super().forward(x)

train(batch, Picky())
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "project"
    place.mkdir()
    return place


def write(place: Path, source: str) -> None:
    (place / "train.py").write_text(COMMON + source)


def start(place: Path, budget: str, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "profkit", "tune", "--budget", budget, *more, "train.py"]
    return subprocess.Popen(
        command,
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stop(process: "subprocess.Popen[str]") -> str:
    """Ctrl-C; what it then said on stderr."""
    os.kill(process.pid, signal.SIGINT)
    asked = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - asked < 20
    return err


def left_behind(place: Path) -> list[str]:
    """Copies of the directory, and processes that run in one."""
    beside = [one.name for one in place.parent.iterdir() if one != place]
    for process in psutil.process_iter(["cmdline"]):
        if "train.py" in (process.info["cmdline"] or []):
            try:
                where = process.cwd()
            except psutil.Error:
                continue
            if where.startswith(str(place.parent)):
                beside.append(f"process {process.pid}")
    return beside


def wait_for_trials(
    process: "subprocess.Popen[str]", place: Path, enough: Callable[[dict[str, Any]], bool]
) -> dict[str, dict[str, Any]]:
    """The trials so far, by name, once there are enough."""
    path = place / "runs/tune-train/trials.jsonl"
    ends = time.monotonic() + 150
    while time.monotonic() < ends and process.poll() is None:
        lines = path.read_text().splitlines()[1:] if path.is_file() else []
        trials = [json.loads(line) for line in lines if line.endswith("}")]
        found = {" + ".join(fix["name"] for fix in one["fixes"]): one for one in trials}
        if enough(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not enough trials: {process.communicate(timeout=30)}")


def is_final(trial: dict[str, Any]) -> bool:
    """Whether a tuning that was killed goes on after it: a crash may have been chance."""
    return trial["speedup"] is not None or trial["refused"]


def test_data_in_memory_is_found_and_proven(place: Path) -> None:
    write(place, LOADER)
    process = start(place, "150s")
    found = wait_for_trials(process, place, lambda trials: len(trials) > 0)
    stop(process)
    # It is the most promising one by what was seen of the program.
    assert list(found) == ["data in memory"]
    memory = found["data in memory"]
    assert (memory["gain"], memory["same"]) == ("faster", True)
    assert memory["speedup"]["low"] > 2  # 7.4 ms with the data, 1 ms without
    assert "decoding the data once" in memory["notes"][0]


def test_a_budget_is_kept_and_the_users_files_as_well(place: Path) -> None:
    write(place, LOADER)
    process = start(place, "20s", "--format", "json")
    began = time.monotonic()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert time.monotonic() - began < 1.1 * 20 + 3  # the imports of profkit itself
    found = json.loads(out)
    assert json.loads((place / "runs/tune-train/tune.json").read_text()) == found
    assert found["wall_s"] <= 1.1 * 20
    assert found["runs"] <= most_runs(20)
    assert found["recipe"] if any(one["proven"] for one in found["trials"]) else True
    assert "the budget was spent" in {one["reason"] for one in found["trials"]}
    assert sorted(path.name for path in place.iterdir()) == ["runs", "train.py"]
    assert (place / "train.py").read_text() == COMMON + LOADER
    assert left_behind(place) == []


def test_a_fix_that_crashes_is_skipped_and_the_others_go_on(place: Path) -> None:
    write(place, PICKY)
    process = start(place, "150s")
    found = wait_for_trials(
        process, place, lambda trials: "bf16 autocast" in trials and "channels_last" in trials
    )
    stop(process)
    assert found["bf16 autocast"]["gain"] == "failed"
    assert "not under autocast" in found["bf16 autocast"]["reason"]
    assert found["channels_last"]["reason"] == "the model has no convolutions"
    assert "data in memory" not in found  # it has no loader


def test_a_killed_one_goes_on_and_ctrl_c_keeps_what_there_is(place: Path) -> None:
    write(place, PICKY)
    process = start(place, "150s")
    try:
        first = wait_for_trials(process, place, lambda trials: any(map(is_final, trials.values())))
    finally:
        process.kill()
        process.communicate()
    ends = time.monotonic() + 60  # its instances see it as soon as they have imported torch
    while any(one.startswith("process") for one in left_behind(place)):
        assert time.monotonic() < ends
        time.sleep(0.1)
    process = start(place, "150s")
    first = {name: one for name, one in first.items() if is_final(one)}
    kept = wait_for_trials(
        process, place, lambda trials: sum(map(is_final, trials.values())) > len(first)
    )
    err = stop(process)
    assert {name: kept[name] for name in first} == first
    assert f"going on after {len(first)} trial" in err
    assert "the same command goes on from there" in err
    lines = (place / "runs/tune-train/trials.jsonl").read_text().splitlines()
    assert len(lines) == len(kept) + 1
    assert left_behind(place) == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("print('nothing trains here')\n", "completed: nothing trains here"),
        ("train(batch, Net().cuda())\n", "CUDA"),
        ("raise SystemExit('no config')\n", "no config"),
    ],
)
def test_a_program_that_does_not_train_is_a_clear_line(
    place: Path, source: str, words: str
) -> None:
    write(place, source)
    process = start(place, "40s")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    first, last = err.strip().splitlines()
    assert first.startswith(f"profkit: train.py is started at most {most_runs(40)} times")
    assert last.startswith("profkit: error: the program ")
    assert words in last
    assert left_behind(place) == []


LOOK = """
import os
from pathlib import Path
from profkit.schema.fix import FixOrder
from profkit.scripts.target import Target
from profkit.verify.look import look_at
from profkit.verify.places import Place

here = Path.cwd()
place = Place(here, here, Target("script", "train.py"), {})
look_at(place, here.parent / "look", 600.0, 2, FixOrder())
"""


def test_a_look_ends_with_whoever_is_killed_in_it(place: Path) -> None:
    """Its loader workers as well."""
    (place / "train.py").write_text(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    time.sleep(600)\n"
        "Path = __import__('pathlib').Path\n"
        "Path('began').touch()\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", LOOK], cwd=place, env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    ends = time.monotonic() + 60
    while not (place / "began").exists():
        assert time.monotonic() < ends
        assert process.poll() is None
        time.sleep(0.05)
    assert len([one for one in left_behind(place) if one.startswith("process")]) == 2
    process.kill()
    process.wait()
    while any(one.startswith("process") for one in left_behind(place)):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_script_that_is_not_there_is_not_started(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(place, "40s")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == (
        "profkit: error: train.py does not exist: give a Python script, or a module with -m\n"
    )
    monkeypatch.chdir(place)
    for program in ("gone.py", Path("gone.py"), Target("script", "gone.py")):
        with pytest.raises(InputError, match=r"gone.py does not exist"):
            profkit.tune(program, "--epochs", "5", budget_s=20.0)
    assert not (place / "runs").exists()


def test_a_block_that_came_too_late_is_not_taken_for_the_next(place: Path) -> None:
    write(place, "train(batch, Net())\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    target = Target("script", "train.py")
    launch = Launch(target, place, environment, place / "log", 12, "one", FixOrder(watched=8))
    instance = Instance(launch)
    try:
        instance.start()
        ends = time.monotonic() + 60
        instance.wait_until_warm(ends)
        with pytest.raises(LateError):
            instance.run_block(300, time.monotonic())
        steps, _ = instance.run_block(20, ends)
        assert len(steps) == 20
        fixes = instance.ask_fixes(ends)
        assert fixes is not None
        assert len(fixes.losses) == 8
        steps, _ = instance.run_block(20, ends)
        assert len(steps) == 20
    finally:
        instance.end()
