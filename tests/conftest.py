"""What several tests need: a fake clock, made-up runs, and where MNIST lies."""

import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_bench import FakeLoop
from profkit.probe.marks import StageClock
from profkit.schema.record import RunRecord
from profkit.schema.run import (
    SCHEMA_VERSION,
    Environment,
    Hardware,
    LoaderFacts,
    RunManifest,
)
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag, MarkTable, StepTable

pytest_plugins = ["pytester"]


class FakeTime:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.now_ns = 1_000

    def __call__(self) -> int:
        return self.now_ns

    def pass_ns(self, duration_ns: int) -> None:
        self.now_ns += duration_ns


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def fake_loop(monkeypatch: pytest.MonkeyPatch, fake_time: FakeTime) -> Callable[..., FakeLoop]:
    """Makes fake loops; whatever `profkit.measure` times meanwhile is timed on their clock."""
    from profkit import loops
    from profkit.probe.step_clock import StepClock

    monkeypatch.setattr(loops, "StepClock", functools.partial(StepClock, now=fake_time))
    return functools.partial(FakeLoop, fake_time)


class Gathered:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.tables: list[StepTable] = []
        self.marks: list[MarkTable] = []

    def __call__(self, steps: StepTable, marks: MarkTable) -> None:
        self.tables.append(steps)
        self.marks.append(marks)

    @property
    def steps(self) -> StepTable:
        return StepTable.concatenate(self.tables)


@pytest.fixture
def gathered() -> Gathered:
    return Gathered()


@pytest.fixture
def clock(fake_time: FakeTime, gathered: Gathered) -> StageClock:
    return StageClock(gathered, now=fake_time)


@pytest.fixture
def paced(fake_time: FakeTime) -> Callable[[Iterable[object], int], Iterable[object]]:
    """A loader that takes a known time for each batch."""

    def pace(batches: Iterable[object], wait_ns: int) -> Iterable[object]:
        for batch in batches:
            fake_time.pass_ns(wait_ns)
            yield batch

    return pace


HARDWARE = Hardware(
    processor="Test processor",
    frequency_mhz=2500.0,
    physical_cores=2,
    logical_cores=2,
    usable_cores=2,
    memory_bytes=2**34,
    gpus=(),
    system="Linux",
)


def make_manifest(name: str = "made up", **changes: object) -> RunManifest:
    environment = Environment(HARDWARE, {"python": "3.11.0"}, 2, 2, "0123abc")
    manifest = RunManifest(
        schema=SCHEMA_VERSION,
        name=name,
        command="train.py",
        started_at="2026-01-01T00:00:00+00:00",
        ended="completed",
        device="cpu",
        environment=environment,
        loader=LoaderFacts("dataloader", 64, 0, None),
    )
    return replace(manifest, **changes)  # type: ignore[arg-type]


def make_steps(
    stages_ns: dict[Stage, object],
    count: int = 40,
    *,
    block: int | None = None,
    warmup: int = 0,
    start: int = 0,
    noise: float = 0.0,
    seed: int = 0,
) -> StepTable:
    """Steps whose stages take what is said (a number, or one a step); `other` is 0 if not given."""
    draw = np.random.default_rng(seed)
    taken = np.zeros((count, len(STAGES)), np.int64)
    marked = np.zeros((count, len(STAGES)), np.bool_)
    marked[:, STAGES.index(Stage.OTHER)] = True
    for stage, duration in stages_ns.items():
        column = STAGES.index(stage)
        spread = np.exp(draw.normal(0, noise, count))
        taken[:, column] = np.round(np.broadcast_to(np.asarray(duration), count) * spread)
        marked[:, column] = True
    ends = start + np.cumsum(taken.sum(axis=1))
    starts = np.concatenate(([start], ends[:-1]))
    flags = np.zeros(count, np.int64)
    flags[:warmup] |= int(Flag.WARMUP)
    flags[:: block or max(1, count)] |= int(Flag.BLOCK_START)
    return StepTable(starts, ends, taken, marked, None, np.full(count, 64, np.int64), flags)


def make_run(steps: StepTable, **changes: object) -> RunRecord:
    return RunRecord(make_manifest(**changes), steps, MarkTable.empty())  # type: ignore[arg-type]


@pytest.fixture
def mnist_dir() -> Path:
    """Where the real MNIST lies; a test that needs it skips where it is not."""
    where = os.environ.get("PROFKIT_DATA")
    if not where:
        pytest.skip("needs real MNIST: set PROFKIT_DATA to a directory with its IDX files")
    return Path(where)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def looking(tmp_path: Path) -> Iterator[Any]:
    """Looks into loaders (a `LoaderAnatomy`), with its files below `tmp_path / "loader"`."""
    # Here, since most tests need no torch.
    from profkit.probe.loader_anatomy import LoaderAnatomy
    from profkit.probe.replacements import Replacements

    hooks = Replacements()
    anatomy = LoaderAnatomy(str(tmp_path / "loader"))
    anatomy.install(hooks)
    yield anatomy
    hooks.put_back()
    anatomy.stop()
