"""What observing a script by hooks costs: the second half of `python -m experiments.overhead`."""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.data import DataLoader

import profkit
from profkit.workloads.torchvision_repair import import_torchvision

from .measured import spread

TINY_TARGET_US = 20.0
SHARE_TARGET = 0.01
WALL_TARGET = 1.05
BYTES_TARGET = 64.0
PEER_US = 229
PEER_WALL = 2.3

IMAGES = """
class Images(torch.utils.data.Dataset):
    def __init__(self):
        generator = numpy.random.default_rng(0)
        self.images = generator.integers(0, 256, (60_000, 28, 28), dtype=numpy.uint8)
        self.labels = generator.integers(0, 10, 60_000)
    def __len__(self):
        return len(self.labels)
    def __getitem__(self, index):
        image = numpy.array(Image.fromarray(self.images[index]))
        x = torch.from_numpy(image).unsqueeze(0).float().div(255).sub(0.1307).div(0.3081)
        return x, self.labels[index]

data, batch_size = Images(), 512
model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
"""
ROWS = """
data = TensorDataset(torch.randn(8192, 64), torch.randint(0, 10, (8192,)))
batch_size = 64
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
"""
SHORT_RUN = """
import time
import numpy
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
{program}
optimizer = torch.optim.Adam(model.parameters())
steps = 0
began = time.perf_counter()
while steps < {steps}:
    for x, y in DataLoader(data, batch_size=batch_size, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        if steps == {steps}:
            break
print(time.perf_counter() - began)
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A training loop to observe: `run(steps)`."""

    name: str
    run: Callable[[int], None]
    steps: int
    pairs: int


def _trained(model: nn.Module, x: torch.Tensor, loader: bool) -> Callable[[int], None]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def run(steps: int) -> None:
        batches = DataLoader([x] * steps, batch_size=None) if loader else [x] * steps
        for batch in batches:
            out = model(batch)
            loss = nn.functional.mse_loss(out, torch.zeros_like(out))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return run


def tiny(loader: bool) -> Callable[[int], None]:
    """Linear(8, 8): a step so short that every microsecond beside it shows."""
    generator = torch.Generator().manual_seed(0)
    return _trained(nn.Linear(8, 8), torch.randn(8, 8, generator=generator), loader)


def resnet() -> Callable[[int], None]:
    """ResNet-18 on images of 224 x 224, batch 8."""
    import_torchvision()
    from torchvision.models import resnet18

    return _trained(resnet18(), torch.randn(8, 3, 224, 224), loader=True)


def many_modules() -> Callable[[int], None]:
    """1,000 small submodules in a row."""
    layers = [nn.Linear(32, 32) for _ in range(1000)]
    return _trained(nn.Sequential(*layers), torch.randn(8, 32), loader=True)


def pair_blocks(subject: Subject, scratch: Path) -> tuple[list[float], list[float]]:
    """Observed and plain blocks that take turns in this process: s a step, plain and observed.

    A step that is not timed comes before each block: at the end of its loader, profkit writes for
    the first time, which opens files. A run does that once; the whole runs show it.
    """
    order = random.Random(0)
    subject.run(subject.steps)
    plain, observed = [], []
    for pair in range(subject.pairs + 1):
        taken = {}
        for hooked in order.sample((False, True), 2):
            run = scratch / f"{pair}"
            with profkit.observe(run, warmup=0) if hooked else nullcontext():
                subject.run(1)
                taken[hooked] = _timed(subject)
        if pair:  # the first one imports, and fills caches
            plain.append(taken[False])
            observed.append(taken[True])
    return plain, observed


def _timed(subject: Subject) -> float:
    began = time.perf_counter()
    subject.run(subject.steps)
    return (time.perf_counter() - began) / subject.steps


def measure_steps(scratch: Path) -> list[str]:
    """The hooks' cost in steps of several lengths, in the same process as the plain ones."""
    threads = torch.get_num_threads()
    lines = [
        "## `profkit run`: the hooks, by step",
        "",
        "Observed and plain blocks take turns in one process. Writing is included, but for the "
        "first time in each run, which is part of the whole runs below. Added: median over pairs "
        "(95 % interval, bootstrap over pairs).",
        "",
        "| loop | threads | pairs × steps | plain step, ms | added, µs a step | added, % of it |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    verdicts = []
    for name, make, one_thread, steps, pairs, target in (
        ("Linear(8, 8), DataLoader", lambda: tiny(True), True, 10_000, 40, None),
        ("Linear(8, 8), no loader", lambda: tiny(False), True, 10_000, 40, None),
        ("ResNet-18, batch 8", resnet, False, 2, 60, SHARE_TARGET),
        ("1,000 submodules", many_modules, True, 10, 100, SHARE_TARGET),
    ):
        torch.set_num_threads(1 if one_thread else threads)
        subject = Subject(name, make(), steps, pairs)
        with tempfile.TemporaryDirectory(dir=scratch) as place:
            plain, observed = map(np.array, pair_blocks(subject, Path(place)))
        added = np.array(observed) - np.array(plain)
        share = added / np.array(plain)
        cells = (
            name,
            str(torch.get_num_threads()),
            f"{pairs} × {steps}",
            spread(np.array(plain) * 1e3),
            _with_interval(added * 1e6, 2),
            _with_interval(share * 100, 2),
        )
        lines.append("| " + " | ".join(cells) + " |")
        if target is None:
            middle, limit, unit = float(np.median(added)) * 1e6, TINY_TARGET_US, "µs"
        else:
            middle, limit, unit = float(np.median(share)) * 100, target * 100, "% of the step"
        word = "met" if middle <= limit else "missed"
        verdicts.append(f"{name}: {middle:.3g} {unit}, target at most {limit:g}: **{word}**")
    torch.set_num_threads(threads)
    return [*lines, "", *(f"- {one}" for one in verdicts), f"- a known peer: {PEER_US} µs", ""]


def _with_interval(values: np.ndarray, digits: int) -> str:
    draw = np.random.default_rng(0)
    picked = draw.integers(values.size, size=(2000, values.size))
    low, high = np.quantile(np.median(values[picked], axis=1), (0.025, 0.975))
    return f"{np.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def measure_long(run: Path, steps: int) -> list[str]:
    """Memory, disk and completeness over very many steps."""
    process = psutil.Process()
    torch.set_num_threads(1)
    train = tiny(True)
    marks = []
    with profkit.observe(run, warmup=0):
        for part in range(10):
            train(steps // 10)
            marks.append(((part + 1) * steps // 10, process.memory_info().rss / 2**20))
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    found = profkit.report(run).runs[0].breakdown
    count = found.disturbed + found.partial + (0 if found.steps is None else found.steps.count)
    stages = sum(finding is not None for finding in found.stages.values())
    counts, sizes = np.array(marks[1:]).T
    slope = float(np.polyfit(counts, sizes, 1)[0]) * 2**20
    a_stage = size / steps / stages
    return [
        f"## `profkit run`: {steps:,} steps",
        "",
        f"Resident memory, MiB, by tenths: {', '.join(f'{rss:.1f}' for _, rss in marks)}. Growth "
        f"after the first tenth: {slope:.3f} bytes a step (least squares).",
        "",
        f"On disk: {size / steps:.1f} bytes a step with {stages} observed stages, {a_stage:.1f} a "
        f"step and stage; target at most {BYTES_TARGET:g}: "
        f"**{'met' if a_stage <= BYTES_TARGET else 'missed'}**. Steps in the report: {count:,} of "
        f"{steps:,} ({found.disturbed:,} of them beside stack samples, left out of the times).",
        "",
    ]


def measure_walls(scratch: Path, pairs: int, seconds: float) -> list[str]:
    """Whole processes of short runs, plain and observed in turns."""
    rows, verdicts = [], []
    for name, program in (
        ("images of 28 × 28, batch 512", IMAGES),
        ("rows of 64 numbers, batch 64", ROWS),
    ):
        script = scratch / "short.py"
        steps = _write_short(script, program, seconds)
        plain, observed = map(np.array, _pair_walls(script, scratch, pairs))
        ratios = observed / plain
        cells = (
            name,
            f"{seconds / steps * 1e3:.3g}",
            spread(plain),
            spread(observed),
            _with_interval(ratios, 3),
        )
        rows.append("| " + " | ".join(cells) + " |")
        middle = float(np.median(ratios))
        word = "met" if middle <= WALL_TARGET else "missed"
        verdicts.append(f"- {name}: {middle:.3f}, target at most {WALL_TARGET:g}: **{word}**")
    return [
        "## `profkit run`: short runs as a whole",
        "",
        f"Processes that train for about {seconds:g} s, {pairs} pairs in turns; with profkit's own "
        "start, its stack samples and the report at the end. Median (quartiles); of the ratio 95 % "
        "interval, bootstrap over pairs.",
        "",
        "| trains on | step, ms | `python short.py`, s | `profkit run short.py`, s | ratio |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        *verdicts,
        f"- a known peer: {PEER_WALL:g}",
        "",
    ]


def _write_short(script: Path, program: str, seconds: float) -> int:
    """Make a program that trains for so long; gives its steps."""
    steps = 100
    for _ in range(2):  # the first guess is too short to tell
        script.write_text(SHORT_RUN.format(program=program, steps=steps))
        taken = float(subprocess.run([sys.executable, str(script)], **_QUIET).stdout)
        steps = max(1, round(steps * min(seconds, 30 * taken) / taken))
    script.write_text(SHORT_RUN.format(program=program, steps=steps))
    return steps


def _pair_walls(script: Path, scratch: Path, pairs: int) -> tuple[list[float], list[float]]:
    """Wall time of the processes in s, plain and observed."""
    order = random.Random(2)
    walls: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(pairs):
        for hooked in order.sample((False, True), 2):
            run = ["-m", "profkit", "run", "--force", "--out", str(scratch / "wall")]
            began = time.perf_counter()
            subprocess.run([sys.executable, *(run if hooked else []), str(script)], **_QUIET)
            walls[hooked].append(time.perf_counter() - began)
    return walls[False], walls[True]


_QUIET: dict[str, object] = {"check": True, "capture_output": True, "text": True}
