"""What recording costs: `python -m experiments.overhead` writes reports/overhead.md.

Nothing else may run on the machine meanwhile. Takes about seventeen minutes on two cores.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

import profkit

from .measured import head, save, spread
from .run_overhead import measure_long, measure_steps, measure_walls

REPORT = Path("reports", "overhead.md")
TARGET_US = 10.0
TARGET_START_S = 0.15


class TinyLoop:
    """Linear(8, 8), batch 8: a step so short that every microsecond beside it shows."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.model = torch.nn.Linear(8, 8)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))

    def plain(self, steps: int) -> None:
        model, optimizer, x = self.model, self.optimizer, self.x
        for _ in range(steps):
            batch = x
            loss = model(batch).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def marked(self, steps: int, recorder: profkit.Recorder) -> None:
        model, optimizer, x = self.model, self.optimizer, self.x
        for _ in recorder.steps(range(steps)):
            with recorder.stage("transfer"):
                batch = x
            with recorder.stage("forward"):
                loss = model(batch).square().mean()
            with recorder.stage("backward"):
                loss.backward()
            with recorder.stage("optimizer"):
                optimizer.step()
                optimizer.zero_grad()


def pair_blocks(run: Path, pairs: int, steps: int) -> dict[str, list[float]]:
    """The marked loop beside the plain one in this process, in blocks that take turns: µs."""
    loop = TinyLoop()
    order = random.Random(0)
    found: dict[str, list[float]] = {"plain": [], "added": []}
    with profkit.record(run) as recorder:
        loop.plain(steps)
        loop.marked(steps, recorder)
        for _ in range(pairs):
            taken = {}
            for marked in order.sample((False, True), 2):
                began = time.perf_counter_ns()
                if marked:
                    loop.marked(steps, recorder)
                else:
                    loop.plain(steps)
                taken[marked] = (time.perf_counter_ns() - began) / steps / 1e3
            found["plain"].append(taken[False])
            found["added"].append(taken[True] - taken[False])
    return found


def measure_marks(scratch: Path, processes: int, pairs: int, steps: int) -> list[str]:
    """The cost of the marks over several processes, one after the other."""
    found = []
    for process in range(processes):
        command = [
            sys.executable,
            "-m",
            "experiments.overhead",
            "--one",
            str(scratch / f"{process}"),
        ]
        command += ["--pairs", str(pairs), "--steps", str(steps)]
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        found.append(json.loads(shown.stdout))
    medians = [float(np.median(one["added"])) for one in found]
    pooled = [value for one in found for value in one["added"]]
    # Processes are what was drawn, pairs within them: both are resampled.
    draw = np.random.default_rng(0)
    resampled = []
    for _ in range(2000):
        picked = draw.integers(processes, size=processes)
        resampled.append(
            np.median([np.median(draw.choice(found[one]["added"], pairs)) for one in picked])
        )
    low, high = np.quantile(resampled, (0.025, 0.975))
    middle = float(np.median(medians))
    verdict = "met" if middle <= TARGET_US else "missed"
    return [
        "## Explicit marks: a step of six stages",
        "",
        f"Linear(8, 8) at batch 8, one thread; {processes} processes, {pairs} pairs of blocks of "
        f"{steps} steps in random order in each, writing to disk included. Median (quartiles).",
        "",
        "| | µs a step |",
        "|---|---:|",
        f"| plain loop | {spread([value for one in found for value in one['plain']])} |",
        f"| added by marks and recording, all pairs | {spread(pooled)} |",
        f"| added, median of each process | {', '.join(f'{one:.2f}' for one in medians)} |",
        "",
        f"Median of the processes: {middle:.2f} µs, 95 % interval {low:.2f} to {high:.2f} "
        f"(bootstrap over processes and pairs); target at most {TARGET_US:g} µs: **{verdict}**"
        + ("" if high <= TARGET_US or middle > TARGET_US else ", but not surely")
        + ".",
        "",
    ]


def measure_memory(run: Path, steps: int) -> list[str]:
    """Memory and disk over very many steps."""
    process = psutil.Process()
    marks = []
    with profkit.record(run) as recorder:
        for part in range(10):
            for _ in recorder.steps(range(steps // 10)):
                for stage in ("transfer", "forward", "backward", "optimizer"):
                    with recorder.stage(stage):
                        pass
            marks.append(((part + 1) * steps // 10, process.memory_info().rss / 2**20))
    size = sum(path.stat().st_size for path in run.iterdir())
    # The first tenth fills allocators' pools; what matters is whether it goes on growing.
    counts, sizes = np.array(marks[1:]).T
    slope = float(np.polyfit(counts, sizes, 1)[0]) * 2**20
    rows = [f"| {count:,} | {rss:.1f} |" for count, rss in marks]
    return [
        f"## Memory over {steps:,} steps",
        "",
        "| steps | resident memory, MiB |",
        "|---:|---:|",
        *rows,
        "",
        f"Growth after the first tenth: {slope:.3f} bytes a step (least squares). On disk: "
        f"{size / steps:.1f} bytes a step, {size / steps / 6:.1f} a step and stage.",
        "",
    ]


def measure_start(pairs: int) -> list[str]:
    """Whole processes: what `profkit --help` and `import profkit` take."""
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import profkit'": [sys.executable, "-c", "import profkit"],
        "profkit --help": [str(Path(sys.executable).with_name("profkit")), "--help"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    order = random.Random(1)
    for turn in range(pairs + 1):
        for name in order.sample(list(commands), len(commands)):
            began = time.perf_counter()
            subprocess.run(commands[name], check=True, stdout=subprocess.DEVNULL)
            if turn:  # the first one reads the files from disk
                taken[name].append(time.perf_counter() - began)
    rows = [f"| `{name}` | {spread(values)} |" for name, values in taken.items()]
    worst = max(float(np.median(values)) for values in taken.values())
    verdict = "met" if worst <= TARGET_START_S else "missed"
    heavy = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, profkit, profkit.cli; "
            "print([m for m in ('torch', 'pandas', 'numpy', 'pyarrow') if m in sys.modules])",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    return [
        "## Start-up",
        "",
        f"{pairs} processes each, in turns. Median (quartiles), seconds.",
        "",
        "| command | s |",
        "|---|---:|",
        *rows,
        "",
        f"Of torch, pandas, numpy and pyarrow they load: {heavy}. Target at most "
        f"{TARGET_START_S:g} s: **{verdict}**.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=1000, help="steps a block")
    parser.add_argument("--long", type=int, default=1_000_000, help="steps of the memory run")
    parser.add_argument("--starts", type=int, default=30)
    parser.add_argument("--walls", type=int, default=6, help="pairs of short runs")
    parser.add_argument("--wall-seconds", type=float, default=10.0, help="training of each")
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    parser.add_argument("--one", type=Path, metavar="RUN", help="one process of the marks, as JSON")
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(pair_blocks(given.one, given.pairs, given.steps)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        marks = measure_marks(Path(scratch), given.processes, given.pairs, given.steps)
        memory = measure_memory(Path(scratch, "memory"), given.long)
        starts = measure_start(given.starts)
        hooks = [
            *measure_steps(Path(scratch)),
            *measure_long(Path(scratch, "long"), given.long),
            *measure_walls(Path(scratch), given.walls, given.wall_seconds),
        ]
        begin = head(
            "What recording costs", "python -m experiments.overhead", Path(scratch, "memory")
        )
    save(given.output, [*begin, *marks, *memory, *starts, *hooks])


if __name__ == "__main__":
    main()
