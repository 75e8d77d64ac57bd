"""The traced pass on real training steps: what is traced, where it ends, what it leaves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from profkit.analyze.operators import OUTSIDE_OPERATORS
from profkit.errors import InputError, ProbeError
from profkit.probe.torch_trace import TorchPass
from profkit.schema.stage import STAGES, Stage
from profkit.schema.trace import STEP_PREFIX, stage_range
from profkit.store.chrome_trace import read_operator_sources, read_trace
from traces import operator_costs

Batches = list[torch.Tensor]


@pytest.fixture
def batches() -> Batches:
    return [torch.ones(8, 4) for _ in range(3)]


WIDE = torch.ones(512, 512)


def heavy(batch: torch.Tensor) -> torch.Tensor:
    """The cost that the tests inject: a product that dwarfs everything else here."""
    return torch.mm(WIDE, WIDE)[0, 0] * batch.sum()


def loop(traced: TorchPass, loader: object) -> int:
    count = 0
    for batch in traced.steps(loader):  # type: ignore[arg-type]
        with traced.clock.stage("forward"):
            heavy(batch)
        count += 1
    return count


def test_the_loop_ends_itself_and_marks_and_ranges_agree(tmp_path: Path, batches: Batches) -> None:
    with TorchPass(tmp_path / "new", warmup=2, steps=5) as traced:
        assert loop(traced, batches) == 2 + 5 + 1
    assert traced.done
    assert traced.gap is None
    assert sorted(os.listdir(tmp_path / "new")) == ["operator_sources.json", "trace.json.gz"]
    # Three batches an epoch: the loader began anew twice within the traced steps.
    trace = read_trace(traced.trace_path)
    assert len(traced.table) == 5
    assert operator_costs(trace, None, Stage.FORWARD).steps == 5
    forward = STAGES.index(Stage.FORWARD)
    marked = traced.table.stage_ns[:, forward].sum()
    ranged = trace.duration_ns[trace.is_named(stage_range(Stage.FORWARD))].sum()
    assert ranged == pytest.approx(marked, rel=0.15)
    starts = trace.start_ns[trace.is_named_from(STEP_PREFIX)]
    assert (starts[1:] >= starts[:-1]).all()


def test_an_injected_operator_leads_its_stage_and_no_other(
    tmp_path: Path, batches: Batches
) -> None:
    with TorchPass(tmp_path, steps=3) as traced:
        loop(traced, batches)
    trace = read_trace(traced.trace_path)
    sources = read_operator_sources(traced.sources_path)
    costs = operator_costs(trace, sources, Stage.FORWARD).costs
    costliest, second = [cost for cost in costs if cost.name != OUTSIDE_OPERATORS][:2]
    assert costliest.name == "aten::mm"
    assert costliest.count == 3
    assert costliest.share > 5 * second.share
    line = heavy.__code__.co_firstlineno
    assert costliest.source is not None
    assert costliest.source.endswith(f"{Path(__file__).name}:{line}")
    names = {cost.name for cost in operator_costs(trace, None, Stage.DATALOADER).costs}
    assert "aten::mm" not in names


def test_the_time_between_steps_is_in_none(tmp_path: Path, batches: Batches) -> None:
    with TorchPass(tmp_path, warmup=0, steps=2) as traced:
        loop(traced, batches)
    table = traced.table
    # Stopping and exporting takes far longer than a step, and follows the last one at once.
    assert (table.step_ns == table.stage_ns.sum(axis=1)).all()
    trace = read_trace(traced.trace_path)
    ranges = trace.duration_ns[trace.is_named_from(STEP_PREFIX)]
    assert ranges.sum() == pytest.approx(table.step_ns.sum(), rel=0.2)


def test_a_break_or_a_short_loader_ends_the_trace_early(tmp_path: Path, batches: Batches) -> None:
    with TorchPass(tmp_path / "break", warmup=1, steps=5) as traced:
        for number, _ in enumerate(traced.steps(batches)):
            if number == 3:
                break
    assert len(traced.table) == 3
    assert traced.gap == "the loop ended before the step with call stacks"
    assert operator_costs(read_trace(traced.trace_path), None, Stage.OTHER).steps == 3
    with TorchPass(tmp_path / "once", warmup=1, steps=5) as traced:
        assert loop(traced, iter(batches)) == 3
    assert len(traced.table) == 2
    assert traced.gap is not None


def test_without_sources_nothing_is_missing(tmp_path: Path, batches: Batches) -> None:
    with TorchPass(tmp_path, warmup=0, steps=1, sources=False) as traced:
        assert loop(traced, batches) == 1
    assert traced.gap is None
    assert os.listdir(tmp_path) == ["trace.json.gz"]


def test_too_few_batches_are_said(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="nothing was traced"), TorchPass(tmp_path) as traced:
        loop(traced, [])
    with (
        pytest.raises(ProbeError, match="gave 1 batches, 2 of them to warm up"),
        TorchPass(tmp_path, warmup=2) as traced,
    ):
        loop(traced, iter([torch.ones(1)]))
    assert not torch.autograd._profiler_enabled()


def test_an_error_of_the_loop_passes_and_leaves_nothing_behind(
    tmp_path: Path, batches: Batches
) -> None:
    with pytest.raises(ZeroDivisionError), TorchPass(tmp_path, warmup=1) as traced:  # noqa: PT012
        for number, _ in enumerate(traced.steps(batches)):
            with traced.clock.stage("forward"):
                1 / (2 - number)
    assert not torch.autograd._profiler_enabled()
    assert os.listdir(tmp_path) == []
    with TorchPass(tmp_path, steps=1) as traced:
        loop(traced, batches)
    assert traced.done


def test_another_profiler_is_not_cut_short(tmp_path: Path, batches: Batches) -> None:
    with profile(activities=[ProfilerActivity.CPU], acc_events=False) as own:
        with pytest.raises(ProbeError, match="another torch profiler is active"):
            TorchPass(tmp_path).__enter__()
        torch.ones(3).mul(2)
    assert "aten::mul" in {each.key for each in own.key_averages()}


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_no_gpu_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="cannot trace CUDA"):
        TorchPass(tmp_path, device="cuda").__enter__()


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 steps"):
        TorchPass(tmp_path, steps=0)
    with pytest.raises(InputError, match="'tpu'"):
        TorchPass(tmp_path, device="tpu")


class Squares(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((4,), float(index)).square()


def test_call_places_are_of_the_user(tmp_path: Path) -> None:
    with TorchPass(tmp_path, warmup=0, steps=1) as traced:
        loop(traced, DataLoader(Squares(), batch_size=4))
    waiting = json.loads(traced.sources_path.read_text())["dataloader"]
    line = Squares.__getitem__.__code__.co_firstlineno
    # square is pow in other words; torch's loader frames lie between it and the loop.
    assert waiting["aten::pow"].endswith(f"{Path(__file__).name}:{line}")
    assert not any(place.startswith("/") for place in waiting.values())


SCRIPT = """
import sys, torch
from pathlib import Path
from profkit.probe.torch_trace import TorchPass
with TorchPass(Path(sys.argv[1]), warmup=0, steps=1) as traced:
    for batch in traced.steps([torch.ones(2)] * 3):
        print("mine", flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def test_only_the_user_writes_to_the_console(script: Path, tmp_path: Path) -> None:
    # Kineto reads how much to say when it first says something: only a fresh process shows it.
    environment = {k: v for k, v in os.environ.items() if k != "KINETO_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, script, tmp_path / "out"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("mine\nmine\n", "", 0)
