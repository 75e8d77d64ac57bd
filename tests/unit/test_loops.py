"""Loops that profkit runs itself: their stages by hooks, which are gone afterwards."""

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import profkit
from fake_bench import FakeLoop
from profkit import terms
from profkit.errors import InputError
from profkit.loops import Loop, bench, take_turns
from profkit.schema.stage import STAGES, Stage
from profkit.schema.steps import Flag

MakeLoop = Callable[..., FakeLoop]


@pytest.fixture(autouse=True)
def apart() -> Iterator[None]:
    """What is measured here is none of this test run's own."""
    with terms.under(terms.Terms()):
        yield


class Training:
    """A small model, its data and a step that marks nothing."""

    def __init__(self, workers: int = 0, **settings: Any) -> None:
        self.model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01)
        data = TensorDataset(torch.randn(64, 8), torch.zeros(64, dtype=torch.int64))
        self.loader = DataLoader(data, batch_size=8, num_workers=workers, **settings)

    def step(self, batch: Any) -> None:
        x, y = batch
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        self.optimizer.step()


def seen(found: profkit.Measurement) -> set[str]:
    return {stage.value for stage, finding in found.breakdown.stages.items() if finding}


ALL_BUT_TRANSFER = {"dataloader", "forward", "backward", "optimizer", "other"}


def test_a_step_that_marks_nothing_shows_its_stages() -> None:
    training = Training()
    found = profkit.measure(training.step, training.loader, steps=30, warmup=5)
    assert seen(found) == ALL_BUT_TRANSFER
    assert found.steps == 30
    # By the median: of steps this short one slow moment would be half.
    other = found.table.stage_ns[:, STAGES.index(Stage.OTHER)] / found.table.step_ns
    assert np.median(other) < 0.5


def test_a_step_that_marks_itself_shows_just_that() -> None:
    training = Training()

    def step(batch: Any, clock: Any) -> None:
        with clock.stage("forward"):
            training.step(batch)

    found = profkit.measure(step, training.loader, steps=20, warmup=2)
    assert seen(found) == {"dataloader", "forward", "other"}


def test_an_evaluation_within_the_step_is_part_of_it() -> None:
    training = Training()
    done: list[int] = []

    def step(batch: Any) -> None:
        training.step(batch)
        done.append(1)
        if len(done) % 5 == 0:
            training.model.eval()
            with torch.no_grad():
                training.model(batch[0])
            training.model.train()

    found = profkit.measure(step, training.loader, steps=20, warmup=0)
    assert found.steps == 20
    assert found.breakdown.interrupted == 0


def test_the_hooks_are_gone_afterwards_also_when_the_step_fails() -> None:
    training = Training()
    before = (nn.Module.__call__, torch.Tensor.backward, DataLoader.__iter__, list(sys.meta_path))

    def fails(batch: Any) -> None:
        training.step(batch)
        raise KeyError("labels")

    profkit.measure(training.step, training.loader, steps=10)
    with pytest.raises(KeyError, match="labels"):
        profkit.measure(fails, training.loader, steps=10)
    now = (nn.Module.__call__, torch.Tensor.backward, DataLoader.__iter__, list(sys.meta_path))
    assert now == before
    assert profkit.measure(training.step, training.loader, steps=10).steps == 10  # and free again


def test_what_other_threads_train_is_none_of_it() -> None:
    """Every thread would be hooked; the step itself only sleeps."""
    training, over = Training(), threading.Event()

    def train_elsewhere() -> None:
        while not over.is_set():
            for batch in training.loader:
                training.step(batch)

    other = threading.Thread(target=train_elsewhere)
    other.start()
    try:
        found = profkit.measure(lambda batch: time.sleep(0.002), range(10), steps=20, warmup=0)
    finally:
        over.set()
        other.join()
    assert seen(found) == {"dataloader", "other"}


def test_what_a_loader_trains_is_data_wait() -> None:
    """A loader that trains something itself: all of that is data wait."""
    training = Training()

    class Loader:
        def __iter__(self) -> Any:
            for batch in training.loader:
                training.step(batch)
                yield batch

    found = profkit.measure(lambda batch: None, Loader(), steps=20, warmup=2)
    assert seen(found) == {"dataloader", "other"}


def test_a_loader_asked_within_the_step_is_data_wait(fake_loop: MakeLoop, fake_time: Any) -> None:
    class Slow(torch.utils.data.Dataset[int]):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> int:
            fake_time.pass_ns(3_000)
            return index

    inner = DataLoader(Slow())

    def step(batch: int) -> None:
        fake_time.pass_ns(4_000)
        for _ in inner:
            pass

    found = profkit.measure(step, range(50), steps=20, warmup=0)
    assert found.share("dataloader").value == pytest.approx(0.6)
    assert found.steps == 20


@pytest.mark.parametrize("persistent", [False, True])
def test_loader_workers_end_with_the_measurement(persistent: bool) -> None:
    import multiprocessing

    before = set(multiprocessing.active_children())
    training = Training(1, persistent_workers=persistent)
    found = profkit.measure(training.step, training.loader, steps=16, warmup=4)
    assert found.steps == 16
    assert seen(found) == ALL_BUT_TRANSFER
    if not persistent:
        assert not set(multiprocessing.active_children()) - before
    else:
        del training.loader._iterator


def test_loops_with_workers_take_turns() -> None:
    training = Training(1)
    other = Training()
    new = profkit.measure(training.step, training.loader, steps=16, warmup=4)
    base = profkit.measure(other.step, other.loader, steps=16, warmup=4)
    loops = (new.loop, base.loop)
    assert isinstance(loops[0], Loop)
    assert isinstance(loops[1], Loop)
    with bench(*loops) as place:
        deadline = place.deadline_ns(60)
        pair = ((loops[0], 3), (loops[1], 5))
        found = take_turns(place, *pair, 2, random.Random(0), deadline)
    assert len(found) == 2
    counts = [
        [sum(not flag & Flag.WARMUP for flag in table.flags.tolist()) for table in side]
        for group in found
        for side in group
    ]
    assert counts == [[3, 3], [5, 5]] * 2


def test_turns_are_abba_or_baab_by_chance_and_leave_the_global_streams_alone(
    fake_loop: MakeLoop,
) -> None:
    order: list[str] = []

    def loop(name: str) -> Loop:
        made = fake_loop()
        return Loop(lambda batch: (order.append(name), made(batch)), made)

    streams = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first, second = loop("A"), loop("B")
    with bench(first, second) as place:
        take_turns(place, (first, 1), (second, 1), 40, random.Random(1), place.deadline_ns(1e6))
    groups = ["".join(order[i : i + 4]) for i in range(0, 160, 4)]
    assert set(groups) == {"ABBA", "BAAB"}
    assert 8 <= groups.count("ABBA") <= 32
    assert streams == (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
    )


def test_a_block_goes_on_where_the_one_before_ended(fake_loop: MakeLoop) -> None:
    got: list[int] = []
    loop = Loop(got.append, fake_loop(batches=5))
    with bench(loop) as place:
        for _ in range(3):
            table = loop.run(place, 4, place.deadline_ns(1e6))
            assert (table.flags & int(Flag.BLOCK_START)).tolist() == [
                int(Flag.BLOCK_START),
                0,
                0,
                0,
            ]
    assert got == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_a_process_that_is_observed_is_not_measured_as_well(tmp_path: Path) -> None:
    training = Training()
    with (
        profkit.observe(tmp_path / "run"),
        pytest.raises(InputError, match="observed already") as caught,
    ):
        profkit.measure(training.step, training.loader)
    assert "\n" not in str(caught.value)


def test_one_measurement_at_a_time() -> None:
    def nested(batch: int) -> None:
        profkit.measure(lambda batch: None, range(3), steps=3)

    with pytest.raises(InputError, match="one at a time"):
        profkit.measure(nested, range(3), steps=3)


def test_steps_that_compile_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.callback import callback_handler

    told = list(callback_handler.start_callbacks)
    compiling: list[int] = []

    def step(batch: int) -> None:
        compiling.append(batch)
        if len(compiling) in (1, 2, 9):
            for tell in (*callback_handler.start_callbacks, *callback_handler.end_callbacks):
                tell(None)  # type: ignore[arg-type]

    found = profkit.measure(step, range(40), steps=40, warmup=2)
    assert found.breakdown.compiled == 1  # the others are warm-up anyway
    assert callback_handler.start_callbacks == told


def test_what_waits_for_a_device_counts_for_the_block_but_no_stage(
    fake_loop: MakeLoop, fake_time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from profkit import loops

    monkeypatch.setattr(loops, "_drain", lambda: lambda: fake_time.pass_ns(50_000_000))
    loop = fake_loop(wait_ms=1, work_ms=1, noise=0)
    found = profkit.measure(loop, loop, steps=50, warmup=0)
    assert found.step_time.value == pytest.approx(3e6)
    assert found.share("dataloader").value == pytest.approx(0.5)
    (flags,) = {found.table.flags[-1].item()}
    assert flags & Flag.DRAIN
