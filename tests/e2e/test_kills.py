"""Killed at any moment: what was done a second before is there, and the report says what it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import killing
from forking import ENVIRONMENT
from profkit import api
from profkit.schema.findings import EndingKind
from profkit.store.records import read_run

pytestmark = pytest.mark.alone

SCRIPT = """
import os, sys, time
import torch

mode = sys.argv[1]
log = os.open("log", os.O_WRONLY | os.O_CREAT, 0o644)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
data = [torch.randn(8) for _ in range(4000)]
done = 0

def burst(batches):
    global done
    until = time.monotonic() + 0.5
    for x in batches:
        model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        done += 1
        os.write(log, b"%d %d\\n" % (done, time.monotonic_ns()))
        time.sleep(0.001)
        if time.monotonic() > until:
            break

while True:
    if mode == "loader":
        burst(torch.utils.data.DataLoader(data, batch_size=4))
    else:
        burst(iter(lambda: data[0], None))
    model.eval()
    with torch.no_grad():
        model(data[0])
    model.train()
    time.sleep(2)
"""
LOST_NS = 1_000_000_000


def test_a_run_killed_at_any_of_50_moments_keeps_all_but_its_last_second(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, killing.__file__, str(script)],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    killed = json.loads(done.stdout)
    assert len(killed) == killing.COUNT
    trained = 0
    for number, one in killed.items():
        assert one["code"] == -9
        run = tmp_path / number / "run"
        (found,) = api.report(run).runs
        assert found.ending.kind is EndingKind.KILLED
        assert [gap for gap in found.gaps if gap.startswith("killed: ")]
        log = tmp_path / number / "log"
        rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
        before = sum(int(at_ns) < one["at_ns"] - LOST_NS for _, at_ns in rows)
        steps = len(read_run(run).steps)
        # A loader's step is open until the next batch is asked for, or the loop is left.
        assert before - steps <= (int(number) % 3 == 0)
        # What was on its way when it was killed may be there before the log says so.
        assert steps <= len(rows) + 1
        trained += before > 100
    assert trained > killing.COUNT // 4
