"""A real loop whose workers take its cores: `profkit run` says so."""

import os
import subprocess
import sys
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


def test_workers_that_take_the_loops_cores_are_seen_by_its_waits_for_one(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if len(TWO_CORES) < 2 or not Path("/proc/thread-self/schedstat").exists():
        pytest.skip("needs two cores, and Linux' account of what a thread waits for one")
    shares = {}
    for kind in ("spin:10", "sleep:40"):
        found = observed(tmp_path_factory.mktemp("run"), kind)
        assert found.core_wait is not None
        assert not any("not known without the same loop" in gap for gap in found.gaps)
        shares[kind] = found.core_wait.value
        if kind == "spin:10":
            assert "contended" in [verdict.kind for verdict in found.verdicts]
            text = api.render_report(Report(None, (found,)))
            assert "end of the step the loop waits for a core" in text
    # What else runs here takes cores from both: how much less it is cannot be said.
    assert shares["sleep:40"] < shares["spin:10"]
