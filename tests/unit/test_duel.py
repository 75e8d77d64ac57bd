"""Instances that are made up take turns."""

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import make_steps
from profkit.errors import InputError
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage
from profkit.schema.steps import StepTable
from profkit.verify import duel
from profkit.verify.duel import LOOKS, Duel, fight
from profkit.verify.instance import GoneError, LateError

Blocks = Callable[[int], tuple[StepTable, int]]


class MadeUp:
    """An instance whose steps take 1 and 3 us in turns."""

    is_started = False

    def __init__(self, launch: Any) -> None:
        self.launch = launch
        self.facts = SimpleNamespace(
            step_ns=2_000_000, loader=LoaderFacts("DataLoader", 4, launch.workers, None)
        )

    def start(self) -> None:
        self.is_started = True

    def wait_until_warm(self, deadline: float) -> None:
        assert self.is_started

    def run_block(self, steps: int, deadline: float) -> tuple[StepTable, int]:
        ended = self.launch.ends()
        if ended is not None:
            raise ended
        return make_steps({Stage.FORWARD: np.array([1_000, 3_000] * 10 + [1_000])}, 21), 0


def fought(
    monkeypatch: pytest.MonkeyPatch,
    workers: tuple[int, int] = (0, 0),
    ends: Callable[[], Exception | None] = lambda: None,
    lasts_s: float = 0.5,
) -> Duel:
    monkeypatch.setattr(duel, "Instance", MadeUp)
    monkeypatch.setattr(duel, "end_all", lambda instances: None)
    return fight(
        lambda row: SimpleNamespace(workers=workers[row % 2], ends=ends, name="x", warmup=1),  # type: ignore[return-value,arg-type]
        4,
        2,
        deadline=time.monotonic() + lasts_s,
        starting=2,
        seed=1,
        is_clear=lambda found: len(found.rounds) > 3,
        show=lambda what, share: None,
        met=lambda instances: None,
    )


def test_a_version_with_workers_is_held_against_what_means_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for found in fought(monkeypatch, (0, 2)).rounds:
        assert found.base is not None
        assert found.base.log_ns == found.new.log_ns == pytest.approx((np.log(2_000),) * 2)
    for found in fought(monkeypatch).rounds:
        assert found.new.log_ns == pytest.approx((np.log(1_000),) * 2)


class NowAndThen(MadeUp):
    """One of ten steps takes 21 us, the others 1; it begins with a slow one."""

    done = 0

    def run_block(self, steps: int, deadline: float) -> tuple[StepTable, int]:
        numbers = np.arange(self.done, self.done + steps)
        self.done += steps
        taken = np.where(numbers % 10 == 0, 21_000, 1_000)
        return make_steps({Stage.FORWARD: taken}, steps), 0


def test_what_is_slow_every_ten_steps_is_seen_in_blocks_of_ten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "MadeUp", NowAndThen)
    rounds = fought(monkeypatch, lasts_s=3).rounds
    steps = sum(one.new.steps for one in rounds)
    mean_ns = sum(one.new.mean_ns * one.new.steps for one in rounds) / steps
    assert steps > 2_000
    assert mean_ns == pytest.approx(3_000, rel=0.1)


def test_both_pairs_take_turns_until_a_look_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fought(monkeypatch, lasts_s=5)
    assert [one.pair for one in found.rounds[:4]] == [0, 1, 0, 1]
    assert 1 <= found.looks < len(LOOKS)


def test_an_instance_that_is_late_leaves_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = time.monotonic() + 0.2

    def late() -> Exception | None:
        return LateError() if time.monotonic() >= ends else None

    found = fought(monkeypatch, ends=late, lasts_s=0.2)
    assert 1 <= found.looks <= len(LOOKS)


def test_instances_that_never_last_are_not_started_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"ended 7 times .* \(exit code 1: no room\): give"):
        fought(monkeypatch, ends=lambda: GoneError("exit code 1: no room"), lasts_s=60)
