"""Real programs that take turns: instances of a script, stopped between their blocks."""

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
import pytest

from profkit.analyze.gate import TYPICAL
from profkit.errors import InputError
from profkit.schema.budget import Budget
from profkit.schema.decision import Outcome
from profkit.schema.gate import GateFindings
from profkit.schema.stage import Stage
from profkit.scripts.target import Target
from profkit.verify import duel
from profkit.verify.contest import Contender, Terms, hold_contest
from profkit.verify.duel import block_steps
from profkit.verify.instance import GoneError, Instance, LateError, Launch, end_all

pytestmark = pytest.mark.alone

SCRIPT = """
import os, sys, time
import torch
from torch.utils.data import DataLoader

cost_s, epochs, workers = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
model = torch.nn.Linear(8, 8)
data = [torch.randn(8) for _ in range(256)]

def spin(seconds):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass

class Slow(torch.nn.Module):
    def forward(self, x):
        spin(cost_s)
        return model(x)

slow = Slow()
for epoch in range(epochs):
    for x in DataLoader(data, batch_size=4, num_workers=workers):
        slow(x).square().mean().backward()
        for weight in model.parameters():
            weight.grad = None
print("done", file=sys.stderr)
"""
BUDGET = Budget(step=1.05, throughput=1.10)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def launch(place: Path, name: str, cost_s: float, epochs: int = 10**6, workers: int = 0) -> Launch:
    arguments = (str(cost_s), str(epochs), str(workers))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    target = Target("script", "train.py", arguments)
    return Launch(target, place, environment, place / f"{name}.log", 10, name)


def contest(place: Path, costs_s: tuple[float, float], pairs: int = 1, **more: int) -> GateFindings:
    began = time.monotonic()
    base, new = (
        Contender(
            name,
            "train.py",
            None,
            lambda row, name=name, cost_s=cost_s: launch(place, f"{name}-{row}", cost_s, **more),  # type: ignore[misc]
        )
        for name, cost_s in zip(("base", "new"), costs_s, strict=True)
    )
    terms = Terms(BUDGET, pairs, began, began + 60, starting=2, seed=1)
    return hold_contest(base, new, terms, show=lambda what, share: None)


def test_a_true_regression_is_found_with_its_size_and_its_stage(place: Path) -> None:
    found = contest(place, (0.002, 0.003))
    assert found.outcome is Outcome.ABOVE
    # The one that fell comes first, which beside noisy neighbours may be the throughput alone.
    typical = next(one.estimate for one in found.decisions if one.what == TYPICAL)
    assert typical.low is not None
    assert typical.high is not None
    assert typical.low < 1.55
    assert typical.high > 1.25
    assert found.changes[0].stage is Stage.FORWARD
    assert 0.0005e9 < found.changes[0].change_ns < 0.002e9
    assert found.base is not None
    assert found.base.stage_ns[Stage.OPTIMIZER] is None
    assert found.base.loader is not None
    assert found.base.loader.batch_size == 4


def test_the_same_program_is_no_regression(place: Path) -> None:
    found = contest(place, (0.002, 0.002), pairs=2)
    assert found.outcome is not Outcome.ABOVE
    typical = next(one.estimate for one in found.decisions if one.what == TYPICAL)
    assert typical.low is not None
    assert typical.high is not None
    assert typical.low < 1.02
    assert typical.high > 0.98


def test_an_instance_stands_still_with_its_workers_between_blocks(place: Path) -> None:
    instance = Instance(launch(place, "one", 0.001, workers=1))
    try:
        instance.start()
        instance.wait_until_warm(time.monotonic() + 60)
        instance.run_block(20, time.monotonic() + 60)
        process = psutil.Process(instance._process.pid)
        family = [process, *process.children(recursive=True)]
        assert len(family) == 2
        ends = time.monotonic() + 20  # a busy machine takes a moment to stop them
        while {one.status() for one in family} != {psutil.STATUS_STOPPED}:
            assert time.monotonic() < ends
            time.sleep(0.01)
        before = [sum(one.cpu_times()[:2]) for one in family]
        time.sleep(0.5)
        assert [sum(one.cpu_times()[:2]) for one in family] == before
        steps, _ = instance.run_block(20, time.monotonic() + 60)
        assert len(steps) >= 20
    finally:
        instance.end()
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


def test_a_program_that_ends_is_started_anew(place: Path) -> None:
    found = contest(place, (0.002, 0.003), epochs=1)  # 64 steps each
    assert found.outcome is Outcome.ABOVE
    assert any("started anew" in gap for gap in found.gaps)


def test_one_that_ends_before_its_first_block_says_how(place: Path) -> None:
    with pytest.raises(InputError, match=r"base-0: the program ended before .* 10 steps"):
        contest(place, (0.0, 0.0), epochs=0)
    (place / "train.py").write_text("import torch\nraise ValueError('no data')")
    with pytest.raises(InputError, match=r"\(ValueError: no data\)"):
        contest(place, (0.0, 0.0))


def test_one_that_never_lasts_for_its_blocks_says_how_it_ended(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duel, "RESTARTS", 0)
    with pytest.raises(InputError, match=r"ended 1 times .*\(completed: done\): .* more epochs"):
        contest(place, (0.0001, 0.0001), epochs=1)  # blocks are longer than all of its 64 steps


def test_what_a_program_that_is_gone_left_running_ends_with_it(place: Path) -> None:
    text = SCRIPT.replace(
        "import torch\n", "import subprocess, torch\nsubprocess.Popen(['sleep', '300'])\n", 1
    )
    (place / "train.py").write_text(text)
    instance = Instance(launch(place, "one", 0.0, epochs=1))
    try:
        instance.start()
        instance.wait_until_warm(time.monotonic() + 60)
        left = psutil.Process(instance._process.pid).children()
        assert len(left) == 1
        with pytest.raises(GoneError, match="completed: done"):
            instance.run_block(1_000, time.monotonic() + 60)
    finally:
        instance.end()
    _, alive = psutil.wait_procs(left, timeout=20)
    assert not alive
    instance.end()  # once more does no harm


def test_an_interruption_while_one_starts_leaves_nothing(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "train.py").write_text("import time\ntime.sleep(300)")

    class Struck(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            signal.raise_signal(signal.SIGINT)  # nobody has kept its number yet

    monkeypatch.setattr("profkit.verify.instance.subprocess.Popen", Struck)
    instance = Instance(launch(place, "one", 0.0))
    before = psutil.Process().children()
    try:
        with pytest.raises(KeyboardInterrupt):
            instance.start()
    finally:
        instance.end()
    assert psutil.Process().children() == before
    assert instance._process.returncode is not None


def test_a_second_interruption_ends_all_of_them_at_once(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "train.py").write_text("import time\ntime.sleep(300)")
    instances = [Instance(launch(place, name, 0.0)) for name in ("one", "other")]
    for one in instances:
        one.start()

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("profkit.verify.instance.time.sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            end_all(instances)
    assert not [one for one in instances if psutil.pid_exists(one._process.pid)]
    with instances[0].launch.log.open("wb") as log:
        log.seek(2**26)
        log.write(b"\nlast words\n")
    tracemalloc.start()
    try:
        assert instances[0]._printed()[-1] == "last words"
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_the_time_may_be_up_at_any_moment(place: Path) -> None:
    instance = Instance(launch(place, "one", 0.001))
    try:
        instance.start()
        with pytest.raises(LateError):
            instance.wait_until_warm(time.monotonic())
    finally:
        instance.end()
    instance = Instance(launch(place, "one", 0.01))
    try:
        instance.start()
        instance.wait_until_warm(time.monotonic() + 60)
        with pytest.raises(LateError):
            instance.run_block(10_000, time.monotonic() + 0.1)
        os.kill(instance._process.pid, signal.SIGKILL)
        with pytest.raises(GoneError):
            instance.run_block(1, time.monotonic() + 60)
    finally:
        instance.end()


def test_nothing_is_left_behind_when_the_one_that_measures_is_killed(place: Path) -> None:
    """Not even what stands still: the system wakes a stopped group that nobody can wake up."""
    driver = (
        "import sys, time\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_contest import launch\nfrom profkit.verify.instance import Instance\n"
        f"instance = Instance(launch(Path({str(place)!r}), 'one', 0.001, workers=1))\n"
        "instance.start()\n"
        "instance.wait_until_warm(time.monotonic() + 60)\n"
        "print(instance._process.pid, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    number = int(process.stdout.readline())
    family = [psutil.Process(number), *psutil.Process(number).children(recursive=True)]
    assert len(family) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("step_ms", "workers", "steps"),
    [(0.1, 0, 200), (1.9, 0, 11), (10, 0, 10), (60, 0, 5), (900, 0, 1), (1, 4, 32)],
)
def test_a_block_is_short_but_for_very_short_steps_and_workers(
    step_ms: float, workers: int, steps: int
) -> None:
    assert block_steps(step_ms * 1e6, workers) == steps
