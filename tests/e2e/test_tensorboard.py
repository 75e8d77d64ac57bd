"""What TensorBoard's own plugin makes of profkit's traces, asked over its web page's endpoints."""

import gzip
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from profkit.errors import InputError, RunError
from profkit.probe.torch_trace import TorchPass
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import StepTable
from profkit.store.chrome_trace import slim_for_tensorboard

pytestmark = pytest.mark.alone

STEPS = 6
SIDE = 24
BATCH = 256
LIMIT_S = 90
VIEW = "from profkit.cli.view import view; view.main(standalone_mode=False)"

# On this machine only, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Rows(Dataset[torch.Tensor]):
    """As many samples as the traced steps need, each made with some operators."""

    def __len__(self) -> int:
        return 8 * BATCH

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((SIDE, SIDE), float(index)).sub(0.1).div(0.3).flatten()


class Made:
    """Batches from something that is no DataLoader: a sequence that makes them when asked."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= len(self):
            raise IndexError(index)
        return torch.stack([Rows()[index] for _ in range(BATCH)])


def around(loader: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    """A source that does as much around torch's loader as that does itself."""
    for batch in loader:
        torch.stack([Rows()[0] for _ in range(BATCH)])
        yield batch


SOURCES: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
    "dataloader": lambda: DataLoader(Rows(), batch_size=BATCH),
    "sequence": Made,
    "around": lambda: around(DataLoader(Rows(), batch_size=BATCH)),
}


def train(traced: TorchPass, loader: Iterable[torch.Tensor]) -> None:
    model = torch.nn.Linear(SIDE * SIDE, 256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in traced.steps(loader):
        with traced.clock.stage("forward"):
            loss = model(batch).square().mean()
        with traced.clock.stage("backward"):
            loss.backward()
        with traced.clock.stage("optimizer"):
            optimizer.step()
            optimizer.zero_grad()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, StepTable]]:
    """A directory with one TensorBoard run a source, one unrepaired, and what the marks say."""
    directory = tmp_path_factory.mktemp("traced")
    tables = {}
    # Two threads on a busy machine make the smallest product take longer than all the data.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name, make in SOURCES.items():
        with TorchPass(directory / name, warmup=1, steps=STEPS, sources=False) as one:
            train(one, make())
        tables[name] = one.table
        copy = directory / "tensorboard" / name / f"{name}.pt.trace.json"
        slim_for_tensorboard(one.trace_path, copy)
    torch.set_num_threads(threads)
    raw = directory / "tensorboard" / "unrepaired" / "unrepaired.pt.trace.json"
    raw.parent.mkdir()
    raw.write_bytes(gzip.decompress((directory / "dataloader" / "trace.json.gz").read_bytes()))
    return directory, tables


@pytest.fixture(scope="module")
def overviews(traced: tuple[Path, dict[str, StepTable]]) -> Iterator[dict[str, Any]]:
    """The plugin's overview of every run, from a real TensorBoard that `profkit view` started."""
    with subprocess.Popen(
        [sys.executable, "-c", VIEW, traced[0]], stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            page = child.stdout.readline().strip()
            assert page.startswith("http://127.0.0.1:")
            base = page.partition("#")[0] + "data/plugin/pytorch_profiler/"
            runs = _runs(base, len(SOURCES) + 1)
            yield {Path(run).name: _overview(base, run) for run in runs}
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(LIMIT_S)
    assert child.returncode == 0
    with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
        probe.connect(("127.0.0.1", int(base.split(":")[2].partition("/")[0])))


def _runs(base: str, count: int) -> list[str]:
    limit = time.monotonic() + LIMIT_S
    while time.monotonic() < limit:
        try:
            runs: list[str] = _get(base + "runs")["runs"]
        except urllib.error.HTTPError:  # the plugin registers a moment after the page answers
            runs = []
        if len(runs) == count:
            return runs
        time.sleep(0.2)
    raise AssertionError(f"the plugin did not load {count} runs within {LIMIT_S} s")


def _overview(base: str, run: str) -> Any:
    """Asked for as the plugin's page asks: the first worker, its first span."""
    (worker,) = _get(base + "workers", run=run, view="Overview")
    (span,) = _get(base + "spans", run=run, worker=worker)
    return _get(base + "overview", run=run, worker=worker, span=span, view="Overview")


def _get(address: str, **query: str) -> Any:
    with OPENER.open(f"{address}?{urllib.parse.urlencode(query)}", timeout=LIMIT_S) as answer:
        return json.loads(answer.read())


def shown_share(overview: dict[str, Any]) -> float:
    (step,) = overview["performance"]
    return next(float(p["extra"]) for p in step["children"] if p["name"] == "DataLoader") / 100


def marked_share(table: StepTable) -> float:
    wait = table.stage_ns[:, STAGES.index(Stage.DATALOADER)]
    return float(wait.sum() / table.step_ns.sum())


@pytest.mark.parametrize("source", SOURCES)
def test_the_overview_shows_the_data_wait_that_the_marks_measured(
    traced: tuple[Path, dict[str, StepTable]], overviews: dict[str, Any], source: str
) -> None:
    marked = marked_share(traced[1][source])
    assert 0.1 < marked < 0.95, "the loop must leave something to be wrong about"
    assert shown_share(overviews[source]) == pytest.approx(marked, abs=0.02)
    assert "input data loading" in overviews[source]["recommendations"]


@pytest.mark.parametrize("source", SOURCES)
def test_the_overview_shows_the_steps_that_the_marks_closed(
    traced: tuple[Path, dict[str, StepTable]], overviews: dict[str, Any], source: str
) -> None:
    table = traced[1][source]
    assert len(overviews[source]["steps"]["rows"]) == len(table) == STEPS
    shown_us = overviews[source]["performance"][0]["value"]
    assert shown_us == pytest.approx(table.step_ns.mean() / 1000, rel=0.1)


def test_without_the_repair_the_overview_shows_none(overviews: dict[str, Any]) -> None:
    # Should this fail one day, the plugin reads torch's ranges and the repair can go.
    assert shown_share(overviews["unrepaired"]) == 0


def test_nothing_to_view_is_said(tmp_path: Path) -> None:
    from profkit.cli.view import view

    with pytest.raises(RunError, match="no trace for TensorBoard"):
        view.main([str(tmp_path)], standalone_mode=False)
    with pytest.raises(InputError, match="no such directory"):
        view.main([str(tmp_path / "gone")], standalone_mode=False)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    from profkit.cli.view import view

    (tmp_path / "a.pt.trace.json").write_text("{}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        with pytest.raises(InputError, match=f"cannot use port {port}"):
            view.main([str(tmp_path), "--port", port], standalone_mode=False)
