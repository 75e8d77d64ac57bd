"""`profkit check` on real programs in real repositories."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest

from repositories import commit, git, make_repository

pytestmark = pytest.mark.alone

PROJECT = Path(__file__).parents[2]
TRAIN = """
import os, sys, time
import torch
from torch.utils.data import DataLoader
from costs import FORWARD_S

os.makedirs("out")  # fails where another instance has made it
model = torch.nn.Linear(8, 8)
data = [torch.randn(8) for _ in range(256)]

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Slow(torch.nn.Module):
    def forward(self, x):
        spin(FORWARD_S)
        return model(x)

slow = Slow()
while True:
    for x in DataLoader(data, batch_size=4):
        slow(x).square().mean().backward()
        torch.save(model.state_dict(), "out/checkpoint.pt") if len(sys.argv) > 1 else None
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    files = {"train.py": TRAIN, "costs.py": "FORWARD_S = 0.002\n"}
    return make_repository(tmp_path / "repository", files)


def check(
    repository: Path, *arguments: str, code: int | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "profkit", "check", "--out", "../found", "--force", *arguments],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def left_behind(repository: Path) -> list[str]:
    return sorted(
        one.name for one in repository.parent.iterdir() if one.name.startswith(".profkit")
    )


AGAINST_HEAD = ("--base-ref", "HEAD", "--processes", "1")


def test_a_regression_in_the_working_tree_is_found_and_explained(repository: Path) -> None:
    (repository / "costs.py").write_text("FORWARD_S = 0.003\n")
    before = sorted(one.name for one in repository.iterdir())
    done = check(repository, *AGAINST_HEAD, "--", "train.py", "save", code=1)
    assert "REGRESSION" in done.stdout
    assert "forward" in next(line for line in done.stdout.splitlines() if "explained" in line)
    found = json.loads((repository.parent / "found" / "check.json").read_text())
    assert found["outcome"] == "above"
    # The one that fell comes first, which beside noisy neighbours may be the throughput alone.
    typical = next(one for one in found["decisions"] if one["what"] == "typical step")
    low, high = typical["interval"]
    assert low < 1.55
    assert high > 1.25
    suite = ElementTree.parse(repository.parent / "found" / "junit.xml").getroot()
    assert next(suite.iter("testcase")).find("failure") is not None
    assert "REGRESSION" in (repository.parent / "found" / "check.md").read_text()
    assert sorted(one.name for one in repository.iterdir()) == before
    assert left_behind(repository) == []
    assert "prunable" not in git(repository, "worktree", "list")


def test_the_same_code_is_no_regression(repository: Path) -> None:
    done = check(repository, "--base-ref", "main", "--processes", "2", "--", "train.py")
    assert done.returncode in (0, 3), done.stdout + done.stderr


def test_another_script_is_a_base_too(repository: Path) -> None:
    fast = (repository / "train.py").read_text().replace("FORWARD_S)", "FORWARD_S / 2)")
    (repository / "old.py").write_text(fast)
    check(repository, "--base", "old.py", "--processes", "1", "--", "train.py", code=1)
    found = json.loads((repository.parent / "found" / "check.json").read_text())
    assert [found[one]["name"] for one in ("base", "new")] == ["old.py", "working tree"]


@pytest.mark.parametrize(("limit", "code"), [("50%", 1), ("99.9%", 0)])
def test_a_budget_of_shares_needs_no_base(repository: Path, limit: str, code: int) -> None:
    (repository / "budget.toml").write_text(f'[share]\nforward = "{limit}"\n')
    arguments = ("--budget", "budget.toml", "--processes", "1", "--max-time", "30s")
    done = check(repository, *arguments, "--", "train.py", code=code)
    assert "share of forward" in done.stdout


def test_a_version_that_imports_the_working_trees_code_is_an_error(repository: Path) -> None:
    # What no path can redirect: the program itself asks for the working tree.
    text = f"import sys\nsys.path.insert(0, {str(repository)!r})\n"
    (repository / "train.py").write_text(text + TRAIN)
    commit(repository)
    done = check(repository, *AGAINST_HEAD, "--", "train.py", code=2)
    assert "costs.py of the working tree" in done.stderr


def test_a_program_that_fails_is_an_error_that_says_why(repository: Path) -> None:
    (repository / "costs.py").write_text("FORWARD_S = None\n")
    done = check(repository, *AGAINST_HEAD, "--", "train.py", code=2)
    assert done.stderr.count("\n") == 1
    assert "TypeError" in done.stderr
    assert "working tree" in done.stderr


def test_a_check_that_is_killed_leaves_nothing_in_the_way_of_the_next(repository: Path) -> None:
    command = [sys.executable, "-m", "profkit", "check", *AGAINST_HEAD, "--", "train.py"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen(
            command, cwd=repository, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        deadline = time.monotonic() + 60
        family: list[psutil.Process] = []
        while not (len(family) == 2 and all(one.status() == "stopped" for one in family)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
            family = psutil.Process(process.pid).children()
        process.send_signal(number)
        process.communicate(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=20)
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE], number
        if number != signal.SIGKILL:
            assert left_behind(repository) == [], number
    check(repository, *AGAINST_HEAD, "--max-time", "1s", "--", "train.py", code=2)
    assert left_behind(repository) == []
