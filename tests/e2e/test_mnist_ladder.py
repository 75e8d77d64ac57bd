"""A real ladder of real trainings: stopped in the middle, gone on with, and reported."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

ORDER = (
    *(sys.executable, "-m", "experiments.mnist", "fastmlp"),
    *("--rungs", "9", "--seeds", "2", "--kept", "kept", "-o", "reports/fastmlp.md"),
)
"""The rung that takes least: half a second of training."""
PROJECT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, mnist_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(place: Path) -> list[tuple[str, int, float]]:
    lines = (place / "kept" / "results.jsonl").read_text().splitlines()
    found = [msgspec.json.decode(line) for line in lines]
    return [
        (one["rung"], one["key"]["seed"], one["training"]["epochs"][-1]["accuracy"])
        for one in found
    ]


def test_a_stopped_ladder_goes_on_and_reports(place: Path) -> None:
    started = subprocess.Popen(ORDER, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with started as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert first.startswith("mlp_ends_early, seed 0:")
    assert rest.endswith("stopped; what ended is kept, and the same command goes on from there\n")
    assert len(kept(place)) == 1

    done = subprocess.run(ORDER, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "mlp_ends_early, seed 0:" not in done.stderr
    assert "mlp_ends_early, seed 1:" in done.stderr
    found = kept(place)
    assert [one[:2] for one in found] == [("mlp_ends_early", 0), ("mlp_ends_early", 1)]
    assert all(accuracy > 0.95 for _, _, accuracy in found)
    text = (place / "reports" / "fastmlp.md").read_text()
    for words in ("| 9 mlp_ends_early | mlp_smoothed |", "of the step, data wait", "GFLOP/s fp32"):
        assert words in text
    figures = sorted(one.name for one in (place / "reports" / "figures").iterdir())
    assert figures == ["fastmlp-accuracy.svg", "fastmlp-rungs.svg"]


def test_seeds_are_farmed_out_to_a_ray_cluster(place: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed: pip install 'profkit[ray]'")
    order = [sys.executable, "-m", "experiments.mnist", "seeds", "mlp_ends_early", "--seeds", "2"]
    order += ["--engine", "ray", "--kept", "kept", "-o", "reports/seeds.md"]
    farmed = subprocess.run(order, capture_output=True, text=True, timeout=200)
    assert farmed.returncode == 0, farmed.stderr
    assert sorted(one[:2] for one in kept(place)) == [("mlp_ends_early", 0), ("mlp_ends_early", 1)]
    lines = (place / "kept" / "results.jsonl").read_text().splitlines()
    # They ran beside each other: their times stand for nothing.
    assert all(msgspec.json.decode(line)["series"] is None for line in lines)
    assert "| mlp_ends_early | 2 |" in (place / "reports" / "seeds.md").read_text()
