"""`profkit what-if` on a run whose costs are known, without torch."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import time
import torch
from torch.utils.data import DataLoader, Dataset


def spin(ms):
    end = time.perf_counter() + ms / 1000
    while time.perf_counter() < end:
        pass


def blur(x):
    spin(1)
    return x


class Items(Dataset):
    def __init__(self):
        self.transform = blur

    def __len__(self):
        return 480

    def __getitem__(self, i):
        spin(0.5)
        return self.transform(torch.full((4,), float(i)))


class Slow(torch.nn.Linear):
    def forward(self, x):
        spin(3)
        return super().forward(x)


torch.set_num_threads(1)
model = Slow(4, 1)
optimizer = torch.optim.SGD(model.parameters(), 1e-6)
for x in DataLoader(Items(), batch_size=4):
    model(x).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from profkit.cli import main; main()"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loop")
    (directory / "loop.py").write_text(SCRIPT)
    order = [sys.executable, "-m", "profkit", "run", "--quiet", "--out", "run", "loop.py"]
    subprocess.run(order, cwd=directory, check=True, timeout=120)
    return directory / "run"


def what_if(run: Path, *options: str) -> subprocess.CompletedProcess[str]:
    order = [sys.executable, "-c", WITHOUT_TORCH, "what-if", str(run), *options]
    return subprocess.run(order, capture_output=True, text=True, timeout=60, check=False)


def answers(run: Path, *options: str) -> dict[str, Any]:
    seen = what_if(run, "--format", "json", *options)
    assert (seen.returncode, seen.stderr) == (0, "")
    return {one["change"]: one for one in json.loads(seen.stdout)["answers"]}


def test_what_goes_is_won(run: Path) -> None:
    # A batch of 4 samples takes 6 ms, forward 3: what is injected is nearly all of the step; where
    # the machine was busy meanwhile, the rest is more.
    asked = ("--without", "blur", "--without", "forward=50%", "--memory")
    found = answers(run, *asked)
    assert found["without blur"]["speedup"] == pytest.approx(9 / 5, rel=0.1)
    assert found["forward 50 % shorter"]["speedup"] == pytest.approx(9 / 7.5, rel=0.1)
    assert found["data in memory"]["speedup"] == pytest.approx(9 / 3, rel=0.2)
    for one in found.values():
        low, high = one["speedup_interval"]
        assert low < one["speedup"] < high


def test_all_that_suits_a_run_is_asked_unless_told(run: Path) -> None:
    found = answers(run)
    assert {"data in memory", "without blur", "without forward", "no workers"} & set(found) == {
        "data in memory",
        "without blur",
        "without forward",
    }
    assert found["1 worker"]["speedup"] is None
    assert "not known from a run without any" in found["1 worker"]["reason"]
    assert found["bf16 autocast"]["bound"] > 1


def test_names_are_those_that_the_report_shows(run: Path) -> None:
    found = answers(
        run, "--without", "Blur", "--without", "FORWARD", "--without", "fetch (getitem)"
    )
    assert all(one["speedup"] > 1 for one in found.values())


def test_a_screen_shows_the_same(run: Path) -> None:
    seen = what_if(run, "--without", "blur", "--workers", "2")
    assert seen.returncode == 0
    assert "without blur" in seen.stdout
    assert "unknown, at most" in seen.stdout
    assert "note: 2 workers: what a batch costs in a worker is not known" in seen.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--without", "Foo"), "no stage, transform or part called 'Foo': use one of dataloader"),
        (("--without", "blur=5..0%"), "write a name, or name=50%"),
        (("--without", "blur=0%"), "more than 0 % and at most 100 %"),
        (("--workers", "-1"), "Invalid value for '--workers'"),
        (("--batch", "nan"), "a batch nan times as large makes no sense"),
    ],
)
def test_bad_input_is_one_line(run: Path, options: tuple[str, ...], said: str) -> None:
    seen = what_if(run, *options)
    assert (seen.returncode, seen.stdout) == (2, "")
    assert said in seen.stderr
    assert len(seen.stderr.splitlines()) == 1


def test_a_file_is_written_and_never_replaced_unasked(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "what-if.md"
    assert what_if(run, "--format", "md", "-o", str(page)).stdout.strip() == str(page)
    text = page.read_text()
    assert text.startswith("# What if: loop")
    again = what_if(run, "--format", "md", "-o", str(page))
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert page.read_text() == text
