"""A real loop whose workers take its cores: `profkit run` says so."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from profkit import api
from profkit.schema.findings import Report, RunFindings

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
    spinning = observed(place(), "spin:10").core_wait
    assert spinning is not None
    # Another program that takes the cores for a while does so from these as well.
    shares = []
    for _ in range(3):
        sleeping = observed(place(), "sleep:40").core_wait
        assert sleeping is not None
        shares.append(sleeping.value)
        if shares[-1] < spinning.value / 2:
            break
    assert min(shares) < spinning.value / 2
