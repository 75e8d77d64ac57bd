"""Looks into real loaders: parts with known costs come out at those, whoever makes the batch."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone

LOOP = """
import collections, json, os, sys, time
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset


TOOK = collections.Counter()


def spin(name, ms):
    began = time.perf_counter()
    while time.perf_counter() < began + ms / 1000:
        pass
    TOOK[name] += time.perf_counter() - began


class Blur:
    def __call__(self, x):
        spin("Blur", 2)
        return x


def jitter(x):
    spin("jitter", 1)
    return x


class Items(Dataset):
    def __init__(self):
        self.steps = [Blur(), jitter]

    def __len__(self):
        return 160

    def __getitem__(self, i):
        began, others = time.perf_counter(), sum(TOOK.values())
        spin("spin", 0.5)
        x = torch.full((4,), float(i))
        for step in self.steps:
            x = step(x)
        others = sum(TOOK.values()) - others - TOOK.pop("spin")
        TOOK["fetch"] += time.perf_counter() - began - others
        return x


class Stream(IterableDataset):
    def __init__(self):
        self.items = Items()

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, 160, step):
            yield self.items[i]


def collate(samples):
    spin("collate", 3)
    began = time.perf_counter()
    with open(__file__ + f".{os.getpid()}.took", "w") as file:
        json.dump(TOOK, file)
    TOOK["collate"] += time.perf_counter() - began
    return torch.stack(samples)


def begin(worker):
    torch.manual_seed(worker)


def main(kind="map", workers=0, method=None, persistent=False, epochs=1):
    torch.set_num_threads(1)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    data = Stream() if kind == "stream" else Items()
    loader = DataLoader(
        data, batch_size=4, collate_fn=collate, num_workers=workers, worker_init_fn=begin,
        multiprocessing_context=method if workers else None, persistent_workers=persistent,
    )
    seen = 0.0
    for _ in range(epochs):
        for x in loader:
            loss = model(x).sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen += float(x.sum())
    assert loader.worker_init_fn is begin
    print(seen)


if __name__ == "__main__":
    main(**eval(sys.argv[1]))
"""


def observed(directory: Path, code: str = LOOP, **settings: Any) -> tuple[dict[str, Any], str]:
    """What profkit says of the loop's loader, and what the loop printed."""
    script, run = directory / "loop.py", directory / "run"
    script.write_text(code)
    order = [sys.executable, "-m", "profkit", "run", "--quiet", "--warmup", "2"]
    order += ["--out", str(run), str(script), repr(settings)]
    printed = subprocess.run(order, check=True, timeout=120, capture_output=True, text=True)
    report = [sys.executable, "-m", "profkit", "report", str(run), "--format", "json"]
    shown = subprocess.run(report, check=True, timeout=60, capture_output=True, text=True)
    (found,) = json.loads(shown.stdout)["runs"]
    assert printed.stderr == ""
    return found, printed.stdout


def truth(directory: Path) -> dict[str, float]:
    """Each part's share of what they really took, whoever had the cores meanwhile."""
    took: Counter[str] = Counter()
    for file in directory.glob("*.took"):
        took.update(json.loads(file.read_text()))
    return {name: seconds / sum(took.values()) for name, seconds in took.items()}


def shares(loader: dict[str, Any]) -> dict[str, float]:
    return {one["name"] or one["kind"]: one["share"] for one in loader["producer"]["parts"]}


@pytest.mark.parametrize(
    ("workers", "method"), [(0, None), (1, "fork"), (2, "fork"), (2, "spawn"), (1, "forkserver")]
)
def test_each_part_comes_out_at_its_cost(tmp_path: Path, workers: int, method: str | None) -> None:
    found, printed = observed(tmp_path, workers=workers, method=method)
    assert float(printed) == 4 * sum(range(160))
    loader = found["loader"]
    assert (loader["workers"], loader["method"]) == (workers, method)
    assert loader["producer"]["samples"] == 4
    parts = shares(loader)
    for name, share in truth(tmp_path).items():
        assert parts[name] == pytest.approx(share, abs=0.05), name
    assert sum(parts.values()) == pytest.approx(1)
    if workers:
        assert {"serialise", "hand over"} <= set(parts)
        assert loader["queue"]["capacity"] == 2 * workers
        assert loader["start_up"]["epochs"] == 1
        wait = loader["wait"]
        reasons = wait["starvation_ns"] + wait["head_of_line_ns"] + wait["receive_ns"]
        assert reasons == pytest.approx(wait["wait_ns"])
    assert not any("batches" in gap for gap in found["gaps"])


def test_workers_that_stay_are_told_apart_by_epoch(tmp_path: Path) -> None:
    settings = {"workers": 2, "method": "fork", "persistent": True, "epochs": 2}
    found, _ = observed(tmp_path, **settings)
    assert found["loader"]["producer"]["batches"] == 80 - 4, "less the first of each worker"
    assert not any("batches" in gap for gap in found["gaps"])


def test_an_epoch_that_begins_anew_starts_its_workers_anew(tmp_path: Path) -> None:
    found, _ = observed(tmp_path, workers=1, method="fork", epochs=2)
    assert found["loader"]["start_up"]["epochs"] == 2
    assert found["loader"]["producer"]["batches"] == 80 - 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_is_looked_into_too(tmp_path: Path, workers: int) -> None:
    method = "fork" if workers else None
    found, _ = observed(tmp_path, kind="stream", workers=workers, method=method)
    parts = shares(found["loader"])
    for name, share in truth(tmp_path).items():
        assert parts[name] == pytest.approx(share, abs=0.05), name


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_what_fails_in_a_worker_is_told_as_without_profkit(tmp_path: Path, method: str) -> None:
    code = LOOP.replace('spin("jitter", 1)\n    return x', "raise ValueError('bad sample')")
    script = tmp_path / "loop.py"
    script.write_text(code)
    terms = [str(script), repr({"workers": 1, "method": method})]
    plain = subprocess.run([sys.executable, *terms], capture_output=True, text=True, timeout=60)
    under = ["-m", "profkit", "run", "--quiet", "--out", str(tmp_path / "run")]
    seen = subprocess.run(
        [sys.executable, *under, *terms], capture_output=True, text=True, timeout=60
    )
    assert "bad sample" in plain.stderr
    assert (seen.returncode, seen.stderr) == (plain.returncode, plain.stderr)
