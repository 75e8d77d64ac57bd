"""Training scripts that are run twice: by `python`, and by `profkit run`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import forking
from profkit import api
from profkit.schema.findings import RunFindings
from profkit.schema.record import RunRecord
from profkit.store.records import read_run
from programs import Ended, Programs

RUN = ("-m", "profkit", "run", "--warmup", "0", "--out", "run")
QUIET = (*RUN, "--quiet")

TRAINING = """
import os, random, sys, threading, time
import torch
from torch.utils.data import DataLoader

torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
data = [torch.randn(8) for _ in range(64)]

def train(epochs=1, each=lambda step: None):
    # Without an optimizer: it imports torch._dynamo, which takes a second.
    loss = torch.zeros(())
    for epoch in range(epochs):
        for step, x in enumerate(DataLoader(data, batch_size=4)):
            loss = model(x).square().mean()
            loss.backward()
            with torch.no_grad():
                for weight in model.parameters():
                    weight -= 0.1 * weight.grad
                    weight.grad = None
            each(step)
    return loss.item().hex()
"""
"""What scripts begin with: an epoch of theirs has `EPOCH` steps."""
EPOCH = 16


class Observed(Programs):
    """Training scripts in a directory, where `profkit run` writes to `run`."""

    @property
    def path(self) -> Path:
        """The run directory of the script that was run last."""
        return self.directory / "run"

    @property
    def record(self) -> RunRecord:
        return read_run(self.path)

    @property
    def found(self) -> RunFindings:
        (run,) = api.report(self.path).runs
        return run

    def observed(self, *arguments: str, **options: object) -> Ended:
        """Run it under `profkit run --quiet`."""
        shutil.rmtree(self.path, ignore_errors=True)
        return self.profkit(*arguments, **{"driver": QUIET, **options})  # type: ignore[arg-type]

    def same(self, *arguments: str, **options: object) -> Ended:
        """Run it both ways; what is seen from outside is the same, and is returned."""
        alone = self.python(*arguments, **options)
        assert self.observed(*arguments, **options) == alone
        return alone

    @classmethod
    def forked(cls, sources: "dict[Path, str]") -> "dict[Path, tuple[Observed, Ended]]":
        """Run many scripts under `profkit run --quiet`, from one process that has torch already.

        Args:
            sources: what each does after `TRAINING`, by the directory to run it in.
        """
        made, orders = {}, []
        for place, source in sources.items():
            made[place] = cls(place)
            made[place].write("run.py", TRAINING + source)
            orders.append([str(place), [*QUIET[3:], "run.py"]])
        done = subprocess.run(
            [sys.executable, forking.__file__],
            input=json.dumps(orders),
            env=forking.ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        codes = json.loads(done.stdout)
        ended = {}
        for (place, scripts), code in zip(made.items(), codes, strict=True):
            said = [(place / one).read_text() for one in ("stdout", "stderr")]
            ended[place] = (scripts, Ended(code, *said))
        return ended
