"""What a tuning leaves behind: results, and after a kill the trials to go on from."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profkit import tuning
from profkit.errors import OutputError, RunError
from profkit.schema.tuning import Gain, Trial
from profkit.scripts.target import Target
from profkit.tuning import TRIALS, kept_trials, tune_into
from profkit.verify.tune import TuneOrder
from tunings import (
    BF16,
    FUSED,
    MEMORY,
    ONE_THREAD,
    TWO_WORKERS,
    findings,
    prediction,
    trial,
)

TARGET = Target("script", "train.py", ("--epochs", "5"))
OUT = Path("runs/tune-train")


class Killed(BaseException):
    pass


class Tuned:
    """Stands in for the tuning: measures `trials`, and is killed after some."""

    def __init__(self) -> None:
        self.orders: list[TuneOrder] = []
        self.trials: tuple[Trial, ...] = (trial(MEMORY, value=9.0), trial(BF16, value=1.1))
        self.killed_after: int | None = None

    def __call__(self, order: TuneOrder, show: Any, keep: Any) -> Any:
        self.orders.append(order)
        for count, one in enumerate(self.trials):
            if count == self.killed_after:
                raise Killed
            if one.name not in order.tried:
                keep(one)
        return findings(*self.trials)


@pytest.fixture
def tuned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tuned:
    stand_in = Tuned()
    monkeypatch.setattr(tuning, "tune", stand_in)
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text("import torch\n")
    return stand_in


def run(force: bool = False, target: Target = TARGET) -> None:
    tune_into(target, 60.0, OUT, force=force, show=lambda what, share: None)


def test_a_finished_tuning_leaves_its_results_alone(tuned: Tuned) -> None:
    run()
    assert sorted(path.name for path in OUT.iterdir()) == ["tune.json", "tune.md"]
    assert json.loads((OUT / "tune.json").read_text())["trials"][0]["name"] == "data in memory"
    with pytest.raises(OutputError, match="--force"):
        run()
    run(force=True)
    assert len(tuned.orders) == 2


def test_a_killed_one_goes_on_from_what_it_has_measured(tuned: Tuned) -> None:
    tuned.trials = (
        trial(MEMORY, value=9.0, reach=0.1),
        trial(BF16, gain=Gain.FAILED, same=None, reason="it crashed: \u00e9"),
    )
    tuned.killed_after = 1
    with pytest.raises(Killed):
        run()
    assert kept_trials(TARGET, OUT) == 1
    tuned.killed_after = None
    run()
    assert tuned.orders[1].tried == {"data in memory": tuned.trials[0]}
    assert not (OUT / TRIALS).exists()


def test_what_was_kept_is_whole(tuned: Tuned) -> None:
    full = replace(
        trial(MEMORY, BF16, value=9.0, adds=True), predicted=prediction(8.0), notes=("a note",)
    )
    tuned.trials, tuned.killed_after = (full, full), 1
    with pytest.raises(Killed):
        run()
    with pytest.raises(Killed):
        run()
    assert tuned.orders[1].tried[full.name] == full


def test_a_line_that_was_torn_does_not_count(tuned: Tuned) -> None:
    tuned.killed_after = 1
    with pytest.raises(Killed):
        run()
    with (OUT / TRIALS).open("ab") as file:
        file.write(b'{"fixes": [{"na')
    tuned.killed_after = None
    run()
    assert list(tuned.orders[1].tried) == ["data in memory"]


@pytest.mark.parametrize(
    "change",
    ["script", "module", "deep module", "settings", "threads", "device", "arguments", "force"],
)
def test_another_program_begins_anew(
    tuned: Tuned, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = Path("pkg/sub")
    deep.mkdir(parents=True)
    for path in (deep / "net.py", Path("conf.yaml")):
        path.write_text("width = 8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    tuned.killed_after = 1
    with pytest.raises(Killed):
        run()
    tuned.killed_after = None
    if change == "script":
        Path("train.py").write_text("import torch  # mended\n")
    if change == "deep module":
        (deep / "net.py").write_text("width = 9")
    if change == "settings":
        Path("conf.yaml").write_text("width = 9")
    if change == "threads":
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
    if change == "device":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    if change == "module":
        Path("model.py").write_text("")
    target = Target("script", "train.py", ("--epochs", "6")) if change == "arguments" else TARGET
    run(force=change == "force", target=target)
    assert tuned.orders[1].tried == {}


def test_another_machine_or_torch_begins_anew(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = tuning.read_environment(ask_for_devices=False)
    seen = [tuning._mark(TARGET)]
    assert tuning._mark(TARGET) == seen[0]
    hardware = replace(known.hardware, usable_cores=known.hardware.usable_cores + 1)
    for other in (
        replace(known, hardware=hardware),
        replace(known, versions={**known.versions, "torch": "0.4.1"}),
    ):
        monkeypatch.setattr(tuning, "read_environment", lambda other=other, **asked: other)
        seen.append(tuning._mark(TARGET))
    gpus = tmp_path / "gpus"
    (gpus / "0000:01").mkdir(parents=True)
    (gpus / "0000:01" / "information").write_text("Model: \t Some GPU\nIRQ: 4\n")
    monkeypatch.setattr(tuning, "_GPUS", gpus)
    seen.append(tuning._mark(TARGET))
    assert len(set(seen)) == 4


def test_what_may_have_been_chance_is_not_kept(tuned: Tuned) -> None:
    tuned.trials = (
        trial(MEMORY, value=9.0, reach=0.1),
        trial(BF16, gain=Gain.FAILED, same=None, reason="it was not warm after 15 s: it hangs"),
        replace(trial(FUSED, gain=Gain.FAILED, reason="no fused one"), refused=True),
        trial(TWO_WORKERS, gain=Gain.LEFT),
        trial(ONE_THREAD, value=1.0),
    )
    tuned.killed_after = 4
    with pytest.raises(Killed):
        run()
    assert kept_trials(TARGET, OUT) == 2
    tuned.killed_after = None
    run()
    assert list(tuned.orders[1].tried) == ["data in memory", "fused optimizer"]


def test_a_damaged_file_says_what_to_do(tuned: Tuned) -> None:
    tuned.killed_after = 1
    with pytest.raises(Killed):
        run()
    path = OUT / TRIALS
    path.write_bytes(path.read_bytes().replace(b'"knob":', b'"knot":'))
    with pytest.raises(RunError, match="--force"):
        run()
