import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, Subset, default_collate

from profkit.analyze.lines import line_costs, read_figures
from profkit.errors import ProbeError
from profkit.probe.line_targets import (
    loader_functions,
    module_functions,
    optimizer_functions,
    python_function,
)
from profkit.probe.line_times import time_lines, worker_line_timer
from profkit.schema.stage import Stage


def inner(count: int) -> int:
    total = 0
    for each in range(count):
        total += each
    return total


def outer(count: int) -> int:
    found = inner(count)
    return found + 1


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Scale:
    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.by

    @staticmethod
    def plain(x: int) -> int:
        return x

    @classmethod
    def made(cls) -> "Scale":
        return cls(1.0)

    @traced
    def wrapped(self) -> float:
        return self.by


class Shift(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


class Chain:
    """Shaped as torchvision's Compose, without it."""

    def __init__(self, *transforms: Any) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        for transform in self.transforms:
            x = transform(x)
        return x


def load(index: int) -> torch.Tensor:
    return torch.full((4,), float(index))


def label(y: int) -> int:
    return y % 2


class Items(Dataset[Any]):
    def __init__(self, transform: Any = None, target_transform: Any = None) -> None:
        self.transform = transform
        self.target_transform = target_transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        item = self.prepare(load(index))
        return self.transform(item) if self.transform else item

    def prepare(self, item: torch.Tensor) -> torch.Tensor:
        return item.clone()


def names(functions: tuple[Callable[..., Any], ...]) -> list[str]:
    found = [python_function(each) for each in functions]
    return [each.__qualname__ for each in found if each is not None]


def read(out: Path) -> Any:
    return json.loads(out.read_text())


def test_hits_and_source_text_of_each_line_are_kept(tmp_path: Path) -> None:
    with time_lines([inner], tmp_path / "lines.json"):
        inner(10)
    (function,) = read(tmp_path / "lines.json")["functions"]
    hits = {line["text"]: line["hits"] for line in function["lines"]}
    assert hits["total += each"] == 10
    assert hits["return total"] == 1
    assert function["name"] == "inner"
    assert os.path.samefile(function["file"], __file__)


def test_what_runs_outside_the_body_is_not_timed(tmp_path: Path) -> None:
    with time_lines([inner], tmp_path / "lines.json"):
        pass
    inner(10)
    figures = read_figures(read(tmp_path / "lines.json"))
    assert sum(line.hits for each in figures.functions for line in each.lines) == 0
    assert sys.getprofile() is None


def test_a_line_gives_up_the_time_of_the_timed_function_it_calls(tmp_path: Path) -> None:
    ratios = []
    # The best of three: a busy neighbour's time slices fall on lines, too.
    for _ in range(3):
        with time_lines({Stage.OTHER: [outer, inner]}, tmp_path / "lines.json"):
            for _ in range(400):
                outer(500)
        drilldown = line_costs([read(tmp_path / "lines.json")], Stage.OTHER, 400)
        costs = {cost.name: cost.self_ns or 0 for cost in drilldown.costs}
        within = costs["total += each"] + costs["for each in range(count):"]
        ratios.append(costs.get("found = inner(count)", 0) / within)
    # Neither the callee's lines nor what tracing them costs is the caller's.
    assert min(ratios) < 0.5


def both(count: int) -> int:
    alone = sum(range(20_000))
    beside = inner(count) + sum(range(20_000))
    return alone + beside


def test_a_line_keeps_the_time_of_its_own(tmp_path: Path) -> None:
    with time_lines({Stage.OTHER: [both, inner]}, tmp_path / "lines.json"):
        for _ in range(40):
            both(200)
    drilldown = line_costs([read(tmp_path / "lines.json")], Stage.OTHER, 40)
    own = {cost.name: cost.self_ns or 0 for cost in drilldown.costs}
    ratio = own["beside = inner(count) + sum(range(20_000))"] / own["alone = sum(range(20_000))"]
    assert 0.5 < ratio < 2


def test_stages_are_kept_with_their_functions(tmp_path: Path) -> None:
    targets = {Stage.FORWARD: [outer], Stage.OPTIMIZER: [inner]}
    with time_lines(targets, tmp_path / "lines.json"):
        outer(3)
    stages = {each["name"]: each["stage"] for each in read(tmp_path / "lines.json")["functions"]}
    assert stages == {"outer": "forward", "inner": "optimizer"}


def test_compiled_callables_are_skipped_and_named(tmp_path: Path) -> None:
    with time_lines([len, torch.relu, outer], tmp_path / "lines.json"):
        outer(3)
    document = read(tmp_path / "lines.json")
    assert len(document["functions"]) == 1
    assert "builtins.len" in document["without_lines"]
    assert any("relu" in each for each in document["without_lines"])


def test_an_exception_of_the_body_passes_and_keeps_the_figures(tmp_path: Path) -> None:
    error = KeyError("mine")

    def body() -> None:
        outer(3)
        raise error

    with pytest.raises(KeyError) as caught, time_lines([outer], tmp_path / "lines.json"):
        body()
    assert caught.value is error
    assert read(tmp_path / "lines.json")["functions"][0]["lines"]
    assert sys.getprofile() is None


def test_figures_that_cannot_be_written_are_a_probe_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ProbeError, match="cannot be written"),
        time_lines([outer], tmp_path / "missing" / "lines.json"),
    ):
        outer(3)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (inner, "inner"),
        (traced(inner), "inner"),
        (functools.partial(inner, 3), "inner"),
        (Scale(2.0), "Scale.__call__"),
        (Scale(2.0).plain, "Scale.plain"),
        (Scale.__dict__["plain"], "Scale.plain"),
        (Scale.made, "Scale.made"),
        (Scale(2.0).wrapped, "Scale.wrapped"),
        (Shift(), "Shift.forward"),
        (Shift, "Module.__init__"),
    ],
)
def test_wrappers_are_seen_through(target: object, name: str) -> None:
    function = python_function(target)
    assert function is not None
    assert function.__qualname__ == name


@pytest.mark.parametrize("target", [len, torch.relu, torch.tensor(1).add, 3])
def test_compiled_code_has_no_python_function(target: object) -> None:
    assert python_function(target) is None


def test_loader_functions_hold_items_transforms_collation_and_what_they_call() -> None:
    chain = Chain(Scale(2.0), Chain(Shift(), torch.relu), nn.Sequential(Shift()))
    dataset = Subset(Items(chain, label), [1, 2])
    found = names(loader_functions(dataset))
    expected = ["Subset.__getitem__", "Items.__getitem__", "Items.prepare", "load", "label"]
    expected += ["Chain.__call__", "Scale.__call__", "Shift.forward"]
    expected += ["default_collate", "collate", "collate_tensor_fn"]
    assert [name for name in expected if name not in found] == []
    assert len(found) == len(set(found))


def test_loader_functions_take_the_users_collation() -> None:
    def stack(batch: list[Any]) -> Any:
        return default_collate(batch)

    found = names(loader_functions(Items(), stack))
    assert [name.rpartition(".")[2] for name in found if "stack" in name] == ["stack"]
    assert "default_collate" in found
    assert "collate_tensor_fn" not in found


def test_module_functions_prefer_the_users_own() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(Shift(), nn.Linear(2, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x)  # type: ignore[no-any-return]

    found = [name.rpartition("<locals>.")[2] for name in names(module_functions(Net()))]
    assert found == ["Net.forward", "Shift.forward"]
    only_torch = names(module_functions(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))))
    assert only_torch == ["Sequential.forward", "Linear.forward"]


def test_optimizer_functions_see_through_torchs_wrapper() -> None:
    parameters = nn.Linear(2, 2).parameters()
    found = names(optimizer_functions(torch.optim.SGD(parameters, lr=0.1)))
    assert found[:2] == ["SGD.step", "Optimizer.zero_grad"]
    assert "_single_tensor_sgd" in found


WORKERS = """
import sys
from pathlib import Path

from torch.utils.data import DataLoader

from profkit.probe.line_times import worker_line_timer
from test_line_times import Chain, Items, Scale

def begin(worker_id):
    Path(sys.argv[1], f"began-{worker_id}").touch()

if __name__ == "__main__":
    out = Path(sys.argv[1])
    loader = DataLoader(
        Items(Chain(Scale(2.0))),
        batch_size=2,
        num_workers=2,
        multiprocessing_context=sys.argv[2],
        persistent_workers=sys.argv[3] == "persistent",
        worker_init_fn=worker_line_timer(out, worker_init_fn=begin),
    )
    for epoch in range(2):
        print(sum(len(batch) for batch in loader))
    del loader
"""


@pytest.mark.skipif(sys.platform != "linux", reason="fork is not safe elsewhere")
@pytest.mark.parametrize(("context", "kind"), [("fork", "fresh"), ("spawn", "persistent")])
def test_workers_leave_complete_figures(tmp_path: Path, context: str, kind: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(WORKERS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(script), str(tmp_path), context, kind]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["8", "8"], done.stderr
    documents = [read(path) for path in tmp_path.glob("lines-*.json")]
    assert len(documents) == (2 if kind == "persistent" else 4)
    assert all(each["gap"] is None and each["process"] == "worker" for each in documents)
    costs = line_costs(documents, Stage.DATALOADER, 8, top=200).costs
    hits = {cost.name: cost.count for cost in costs}
    assert hits["return x * self.by"] == 16
    assert hits["item = self.prepare(load(index))"] == 16
    assert {cost.context for cost in costs} == {"worker"}
    calling = next(cost for cost in costs if cost.name == "x = transform(x)")
    assert (calling.self_ns or 0) < (calling.total_ns or 0)
    assert sorted(path.name for path in tmp_path.glob("began-*")) == ["began-0", "began-1"]


def test_a_worker_that_cannot_time_lines_goes_on_and_says_so(tmp_path: Path) -> None:
    worker_line_timer(tmp_path)(0)  # not in a worker
    (path,) = tmp_path.glob("lines-*.json")
    gap = line_costs([read(path)], Stage.DATALOADER, 1).gap
    assert gap == "a worker could not time lines: called outside a loader worker"
    worker_line_timer(tmp_path / "missing")(0)
