import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import profkit
from fake_bench import FakeLoop
from profkit import terms
from profkit.analyze.quantity import Quantity
from profkit.errors import InputError


@pytest.fixture(autouse=True)
def apart() -> Iterator[None]:
    """What is measured here is none of this test run's own."""
    with terms.under(terms.Terms()):
        yield


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_a_known_ratio_of_costs_is_found() -> None:
    def slow(batch: int, clock: object) -> None:
        with clock.stage("forward"):  # type: ignore[attr-defined]
            spin(0.012)
        with clock.stage("backward"):  # type: ignore[attr-defined]
            spin(0.001)

    found = profkit.measure(slow, range(10), steps=60, warmup=5)
    assert found.steps == 60
    assert found.cost("backward") * 2 < found.cost("forward")
    assert not found.cost("forward") < found.cost("backward")
    assert found.share("forward") > 0.5
    with pytest.raises(LookupError, match="stage optimizer was not observed"):
        found.share("optimizer")


def test_an_unmarked_step_is_other_and_its_wait_is_data_wait() -> None:
    class Lazy:
        def __iter__(self):  # type: ignore[no-untyped-def]
            for i in range(10):
                spin(0.006)
                yield i

    found = profkit.measure(lambda batch: spin(0.0005), Lazy(), steps=40, warmup=5)
    assert found.share("dataloader") > found.share("other")


def test_faster_and_slower_loops_compare() -> None:
    slow = profkit.measure(lambda batch: spin(0.008), range(20), steps=40)
    fast = profkit.measure(lambda batch: spin(0.001), range(20), steps=40)
    assert fast.step_time * 2 < slow.step_time
    assert not fast.step_time * 40 < slow.step_time


@pytest.mark.parametrize(
    "arguments",
    [
        {"steps": 0},
        {"steps": "many"},
        {"steps": 2.5},
        {"warmup": -1},
        {"timeout_s": 0},
        {"timeout_s": float("inf")},
        {"timeout_s": float("nan")},
    ],
)
def test_bad_counts_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="steps must be a whole number from 1, warmup one from 0"):
        profkit.measure(print, [1], **arguments)


def test_counts_of_numpy_are_counts() -> None:
    counts: Any = {"steps": np.int64(5), "warmup": np.int32(0), "timeout_s": np.float32(9)}
    assert profkit.measure(lambda batch: None, [1], **counts).steps == 5


def test_an_empty_or_spent_loader_is_refused() -> None:
    with pytest.raises(InputError, match="gave 0 of 110 batches"):
        profkit.measure(lambda batch: None, [])
    with pytest.raises(InputError, match="gave 5 of 13 batches, and none when it was begun anew"):
        profkit.measure(lambda batch: None, iter(range(5)), steps=10, warmup=3)


def test_a_time_limit_gives_fewer_steps() -> None:
    found = profkit.measure(lambda b: spin(0.01), range(9), steps=10_000, warmup=1, timeout_s=0.3)
    assert 1 <= found.steps < 100


def quantity(low: float, value: float, high: float, unit: str = "ns") -> Quantity:
    return Quantity(value, low, high, unit, 12)


def test_a_comparison_holds_only_when_the_intervals_are_apart() -> None:
    small, large = quantity(9, 10, 11), quantity(10.5, 12, 13)
    assert not small < large
    assert not small > large
    assert small < quantity(11.5, 12, 13)
    assert small * 2 > large
    assert small < 11.5
    assert not small < 10.5


def test_a_comparison_that_lets_ends_meet() -> None:
    small, large = quantity(9, 10, 11), quantity(11, 12, 13)
    assert small <= large
    assert large >= small
    assert not small < large
    assert not small <= quantity(10.9, 12, 13)
    assert not large >= quantity(9, 10, 11.1)
    assert small <= 11
    assert small >= 9
    assert not small <= 10


def test_percent_is_no_share(fake_loop: Callable[..., FakeLoop]) -> None:
    loop = fake_loop(wait_ms=3, work_ms=7)
    share = profkit.measure(loop, loop, steps=30, warmup=0).share("dataloader")
    for compares in (
        lambda: share < 20,
        lambda: share > 1.01,
        lambda: share * 2 < 3,
        lambda: share / 2 <= 1,
    ):
        with pytest.raises(ValueError, match=r"write 20 % as 0\.2"):
            compares()
    assert share < 1
    assert not share > 1
    assert share * 100 < 50
    assert share / share < 20  # a ratio may be anything


def test_a_ratio_keeps_the_widest_interval_and_units_do_not_mix() -> None:
    ratio = quantity(8, 10, 12) / quantity(4, 5, 6)
    assert (ratio.value, ratio.low, ratio.high, ratio.unit) == (2, 8 / 6, 3, "ratio")
    with pytest.raises(ValueError, match="share against ns"):
        assert quantity(1, 2, 3, "share") < quantity(4, 5, 6)


def test_without_an_interval_nothing_is_claimed_and_the_reason_is_shown() -> None:
    unsure = Quantity(5e6, 0.0, float("inf"), "ns", 3)
    assert not unsure < 1e12
    assert repr(unsure) == "<5 ms, no interval: only 3 blocks>"
    assert repr(quantity(4e6, 5e6, 6e6)) == "<5 ms, 95 % 4 to 6, 12 blocks>"


def test_a_measurement_says_in_short_what_it_is() -> None:
    def train(batch: int) -> None:
        spin(0.001)

    found = profkit.measure(train, range(9), steps=30, warmup=1)
    assert re.fullmatch(r"<profkit measurement train: 30 steps, <.* ms, .*> each>", repr(found))


def test_what_is_left_of_a_warm_up_is_left_out_and_made_up_for(
    fake_loop: Callable[..., FakeLoop],
) -> None:
    loop = fake_loop(wait_ms=1, work_ms=1)

    def step(batch: int) -> None:
        loop(batch)
        if loop.steps <= 12:
            loop._time.pass_ns(20_000_000)

    found = profkit.measure(step, loop, steps=60, warmup=2)
    assert found.breakdown.warmup == 2 + 12  # ten that were cold, in blocks of three
    assert found.steps == 60
    assert found.step_time < 2.2e6


def test_intervals_of_shares_cover_the_truth_as_often_as_they_say(
    fake_loop: Callable[..., FakeLoop],
) -> None:
    covered, trials = 0, 400
    for seed in range(trials):
        loop = fake_loop(wait_ms=2, work_ms=8, noise=0.4, seed=seed)
        share = profkit.measure(loop, loop, steps=100, warmup=2).share("dataloader")
        covered += share.low <= 0.2 <= share.high
    assert 0.92 <= covered / trials <= 0.98
