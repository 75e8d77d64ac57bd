"""How long the loop waited for a core, and what is made of it."""

import multiprocessing
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import profkit
from conftest import make_manifest, make_run, make_steps
from profkit.analyze.compare import contention
from profkit.analyze.core_waits import core_wait_share, growth_by_waits
from profkit.probe import core_waits
from profkit.probe.core_waits import (
    BLOCK_STEPS,
    LOOK_STEPS,
    MOST_BLOCKS,
    CoreWatch,
    thread_waited_ns,
)
from profkit.schema.estimate import Estimate
from profkit.schema.run import CoreWaits, LoaderFacts
from profkit.schema.stage import Stage
from profkit.store.records import read_run
from scripted_loop import ScriptedLoop

MS = 1_000_000
needs_account = pytest.mark.skipif(
    not Path("/proc/thread-self/schedstat").exists(),
    reason="needs Linux' account of what a thread waits for a core",
)


class Watched(ScriptedLoop):
    """A loop that is looked at between its steps, and an account of waits that the test keeps."""

    def __init__(self, period_ns: int = 500 * MS) -> None:
        super().__init__(period_ns=period_ns, between=lambda: self.watch.look())
        self.waited_ns = 0
        self.asked = 0
        self.watch = CoreWatch(self.clock, self.account, self.time)

    def account(self) -> int:
        self.asked += 1
        return self.waited_ns

    def train_waiting(self, steps: int, work_ns: int, core_ns: int, wait_ns: int = 0) -> None:
        for _ in self.loader(range(steps), wait_ns=wait_ns):
            self.waited_ns += core_ns
            self.train(work_ns)


def found(watched: Watched) -> CoreWaits:
    seen = watched.watch.found
    assert seen is not None
    return seen


def test_steps_are_looked_at_from_the_batch_on() -> None:
    loop = Watched()
    loop.train_waiting(1_000, work_ns=4 * MS, core_ns=1 * MS, wait_ns=6 * MS)
    seen = found(loop)
    assert 900 < seen.steps < 1_000  # of 50 in half a second all, but for the first few
    # The six ms for the batch are none of the span.
    assert sum(seen.spans_ns) == seen.steps * 4 * MS
    assert sum(seen.waits_ns) == seen.steps * 1 * MS
    assert loop.asked <= 2 * seen.steps + 2


def test_of_short_steps_a_few_are_looked_at_in_each_period() -> None:
    loop = Watched()
    loop.train_waiting(10_000, work_ns=1 * MS, core_ns=MS // 4)
    seen = found(loop)
    looks = 10_000 // 500
    assert LOOK_STEPS * (looks - 2) <= seen.steps <= LOOK_STEPS * looks
    blocks = set(seen.spans_ns)
    assert all(span % (BLOCK_STEPS * MS) == 0 for span in blocks), blocks


def test_of_steps_longer_than_a_period_each_is_looked_at() -> None:
    loop = Watched()
    loop.train_waiting(20, work_ns=900 * MS, core_ns=90 * MS)
    seen = found(loop)
    assert seen.steps == 18  # the first one comes before the first look, the last has no end
    share = core_wait_share(replace(make_manifest(), core_waits=seen))
    assert share is not None
    assert share.value == pytest.approx(0.1)


def test_epochs_shorter_than_a_period_are_looked_at_too() -> None:
    loop = Watched()
    for _ in range(100):
        loop.train_waiting(8, work_ns=10 * MS, core_ns=5 * MS)
    assert found(loop).steps > 50


def test_a_loop_without_a_loader_is_looked_at() -> None:
    loop = Watched()
    for _ in range(1_000):
        loop.forward(1 * MS)
        loop.waited_ns += 2 * MS
        loop.backward(1 * MS)
        loop.optimize(2 * MS)
    seen = found(loop)
    assert sum(seen.waits_ns) / sum(seen.spans_ns) == pytest.approx(0.5)


def test_steps_that_are_not_timed_do_not_count_but_cost_no_more() -> None:
    loop = Watched()
    loop.clock.disturb(True)
    loop.train_waiting(2_000, work_ns=1 * MS, core_ns=MS // 2)
    assert loop.watch.found is None
    assert 0 < loop.asked <= 4 * LOOK_STEPS
    for _ in loop.loader(range(2_000)):
        loop.forward(1 * MS)
    assert loop.watch.found is None
    assert loop.asked <= 8 * LOOK_STEPS
    loop.clock.disturb(False)
    loop.train_waiting(200, work_ns=10 * MS, core_ns=5 * MS)
    assert loop.watch.found is not None


def test_batches_of_a_loader_within_the_step_do_not_begin_it_anew() -> None:
    loop = Watched()
    for _ in loop.loader(range(100)):
        loop.train(6 * MS)
        for _ in loop.loader(range(2)):
            loop.forward(2 * MS)
    seen = found(loop)
    assert sum(seen.spans_ns) == seen.steps * 10 * MS


def test_memory_is_bounded_and_looks_grow_rare() -> None:
    loop = Watched()
    loop.train_waiting(40_000, work_ns=10 * MS, core_ns=2 * MS)
    seen = found(loop)
    assert MOST_BLOCKS // 2 <= len(seen.spans_ns) <= MOST_BLOCKS
    assert len(seen.waits_ns) == len(seen.spans_ns)
    assert sum(seen.waits_ns) / sum(seen.spans_ns) == pytest.approx(0.2)
    assert seen.steps < 40_000 / 5


@pytest.mark.parametrize("kind", [OSError, RuntimeError])  # an audit hook may raise anything
def test_where_nobody_counts_nothing_is_said_and_the_loop_goes_on(kind: type[Exception]) -> None:
    loop = Watched()
    refused = 0

    def account() -> int:
        nonlocal refused
        refused += 1
        raise kind

    loop.watch = CoreWatch(loop.clock, account, loop.time)
    loop.train_waiting(1_000, work_ns=10 * MS, core_ns=0)
    assert (loop.watch.found, refused) == (None, 19)  # one a look: it may be back
    assert loop.clock.trained_steps == 1_000


def test_an_account_that_ends_in_the_middle_of_a_step_costs_that_step() -> None:
    loop = Watched()
    answers = iter([0, 5 * MS, 5 * MS])

    def account() -> int:
        if (answer := next(answers, None)) is None:
            raise OSError
        return answer

    loop.watch = CoreWatch(loop.clock, account, loop.time)
    loop.train_waiting(200, work_ns=10 * MS, core_ns=0)
    assert loop.watch.found == CoreWaits(1, (10 * MS,), (5 * MS,))


def test_an_account_that_stands_still_is_none(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path_factory.mktemp("proc") / "schedstat"
    monkeypatch.setattr(core_waits, "_ACCOUNT", str(account))
    account.write_text("12 34 5\n")
    assert thread_waited_ns() == 34
    account.write_text("0 34 1\n")  # a thread that has just begun
    assert thread_waited_ns() == 34
    account.write_text("0 0 0\n")
    with pytest.raises(OSError, match="stands still"):
        thread_waited_ns()


@needs_account
def test_to_ask_leaves_no_file_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        thread_waited_ns()
    assert len(os.listdir("/proc/self/fd")) == before


@needs_account
def test_what_was_seen_is_on_disk_while_the_run_goes_on(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 4)
    run = tmp_path / "run"
    with profkit.observe(run, warmup=0):
        until = time.monotonic() + 1.5
        for x in torch.utils.data.DataLoader([torch.randn(4)] * 10_000, batch_size=None):
            model(x).sum().backward()
            time.sleep(0.005)
            if time.monotonic() > until:
                break
        waits = read_run(run).manifest.core_waits
        assert waits is not None
        assert waits.steps >= LOOK_STEPS // 2


@needs_account
def test_the_kernel_counts_what_a_thread_waits_for_a_core() -> None:
    """One core for two threads of one process: each gets half of it."""
    context = multiprocessing.get_context("fork")
    core = min(os.sched_getaffinity(0))

    def spin(seconds: float) -> float:
        os.sched_setaffinity(0, {core})
        began, waited = time.perf_counter(), thread_waited_ns()
        while time.perf_counter() - began < seconds:
            pass
        return (thread_waited_ns() - waited) / 1e9 / (time.perf_counter() - began)

    def share_beside(neighbours: int) -> float:
        """In a thread of its own, which alone is bound to the core."""
        others = [context.Process(target=spin, args=[1.5]) for _ in range(neighbours)]
        for other in others:
            other.start()
        shares: list[float] = []
        thread = threading.Thread(target=lambda: shares.append(spin(0.8)))
        time.sleep(0.2)
        thread.start()
        thread.join()
        for other in others:
            other.join()
        return shares[0]

    # Whatever else runs here takes its part of the core as well, each time.
    beside = share_beside(2)
    assert beside > 0.5
    assert min(share_beside(0) for _ in range(5)) < beside


def test_contention_without_a_reference_is_told_by_the_waits() -> None:
    loader = LoaderFacts("dataloader", 64, 2, 2)
    run = make_run(make_steps({Stage.FORWARD: 10}, 80, block=10), loader=loader)
    told = contention(run, Estimate(0.5, 0.4, 0.6, 8))
    assert told is not None
    growth = told.growth
    assert (growth.value, growth.low, growth.high) == pytest.approx((2, 1 / 0.6, 2.5))
    assert (told.model_ns, told.model_alone_ns) == (None, None)
    assert told.core_wait is not None
    assert contention(run) is None
    assert contention(run, Estimate(0.5, None, None, 3)) is None  # too few to be sure


def test_a_reference_tells_better_than_the_waits() -> None:
    loader = LoaderFacts("dataloader", 64, 2, 2)
    model = {Stage.FORWARD: 10, Stage.BACKWARD: 10, Stage.OPTIMIZER: 10}
    run = make_run(make_steps(dict.fromkeys(model, 30), 80, block=10), loader=loader)
    alone = replace(run, reference=make_steps(model, 80, block=10))
    told = contention(alone, Estimate(0.9, 0.9, 0.9, 8))
    assert told is not None
    assert told.growth.value == pytest.approx(3)
    assert not told.is_told_by_waits
    assert told.core_wait is not None


@pytest.mark.parametrize("share", [1.0, 1.2])
def test_a_loop_that_only_waits_has_no_endless_growth(share: float) -> None:
    assert growth_by_waits(Estimate(share, None, None, 3)).value == pytest.approx(1_000)
