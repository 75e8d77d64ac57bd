"""`profkit report` on what the ranks of a launch left behind, in a process of its own."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launches import make_launch, write_launch
from profkit.schema.stage import Stage
from profkit.store.names import STEPS, SUMMARY

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight ranks: 5 is slow, 3 was killed while it wrote, 7 left nothing at all."""
    place = tmp_path_factory.mktemp("launch")
    tables = make_launch(8, {5: {Stage.BACKWARD: 1.4}}, steps=100)
    write_launch(place, tables)
    (place / "rank-3" / SUMMARY).unlink()
    steps = place / "rank-3" / STEPS
    steps.write_bytes(steps.read_bytes()[:-40])
    manifest = place / "rank-3" / "run.json"
    manifest.write_text(manifest.read_text().replace('"completed"', "null"))
    shutil.rmtree(place / "rank-7")
    return place


def report(*arguments: str | Path) -> str:
    command = [sys.executable, "-m", "profkit", "report", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_straggler_the_dead_and_the_missing_are_named(launch: Path) -> None:
    text = report(launch)
    assert "- rank 5 is the straggler: its backward is " in text
    assert "- rank 3 died: no end was recorded." in text
    assert "- rank 7 left no data." in text
    assert "rank 3: steps.arrow ends in the middle of a batch" in text
    assert "| 5, slow |" in text


def test_a_program_reads_the_same(launch: Path) -> None:
    ranks = json.loads(report(launch, "--format", "json"))["ranks"]
    assert (ranks["world_size"], ranks["missing"], ranks["died"]) == (8, [7], [3])
    assert [(one["rank"], one["stage"]) for one in ranks["stragglers"]] == [(5, "backward")]
    counts = {one["rank"]: one["steps"] for one in ranks["ranks"]}
    assert counts[3] == 75  # the last batch of 25 was torn
    assert counts[0] == 100
