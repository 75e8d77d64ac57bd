"""Assertions on loops of fake time, whose truth is known, and on a few real ones."""

import random
import re
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import profkit
from fake_bench import FakeLoop
from profkit import terms
from profkit.errors import InconclusiveWarning, InputError
from profkit.schema.ledger import Asserted, Result

MakeLoop = Callable[..., FakeLoop]


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def measured(loop: FakeLoop, **given: Any) -> profkit.Measurement:
    return profkit.measure(loop, loop, **{"steps": 40, "warmup": 0, **given})


@pytest.fixture(autouse=True)
def noted() -> Any:
    """What assertions tell of themselves: not this test run's own table."""
    kept: list[object] = []
    with terms.under(terms.Terms(note=kept.append)):
        yield kept


def asserted(noted: list[object]) -> Asserted:
    (found,) = [one for one in noted if isinstance(one, Asserted)]
    return found


# Shares


def test_a_share_below_its_limit_passes_at_the_first_look(
    fake_loop: MakeLoop, noted: list[object]
) -> None:
    m = measured(fake_loop(wait_ms=1, work_ms=9))
    profkit.assert_share(m, "dataloader", below=0.2)
    found = asserted(noted)
    assert (found.result, found.looks, found.steps) == (Result.PASSED, 1, (40,))


def test_a_share_above_its_limit_fails_and_says_all_that_is_needed(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop(wait_ms=3, work_ms=7), name="train")
    with pytest.raises(AssertionError) as caught:
        profkit.assert_share(m, "dataloader", below=0.2)
    text = str(caught.value)
    assert "share of dataloader in train below 20 %: does not hold" in text
    value, low, high = map(
        float,
        re.search(  # type: ignore[union-attr]
            r"share of dataloader: ([\d.]+) % \(95 % interval ([\d.]+) to ([\d.]+) %\)", text
        ).groups(),
    )
    assert low < value < high
    assert value == pytest.approx(30, abs=1)
    assert "should be below 20 %: fell" in text
    assert "n: 40 steps in 20 blocks, 1 look" in text
    assert "stage data wait: " in text
    assert "costliest line: " in text


def test_a_share_near_its_limit_is_measured_further_until_the_data_can_tell(
    fake_loop: MakeLoop, noted: list[object]
) -> None:
    loop = fake_loop(wait_ms=1, work_ms=9, noise=0.9)
    m = measured(loop)
    profkit.assert_share(m, "dataloader", below=0.135)
    found = asserted(noted)
    assert found.result is Result.PASSED
    assert found.looks > 1
    assert m.steps == found.steps[0] == 40 * 2 ** (found.looks - 1) == loop.steps


def test_a_share_at_its_limit_warns_that_the_data_cannot_tell(
    fake_loop: MakeLoop, noted: list[object]
) -> None:
    loop = fake_loop(wait_ms=2, work_ms=8, noise=0.3)
    with pytest.warns(InconclusiveWarning, match="below 20 %: the data cannot tell"):
        profkit.assert_share(measured(loop), "dataloader", below=0.2, rounds=3)
    assert asserted(noted).looks == 3
    assert loop.steps == 160


def test_the_time_limit_ends_the_further_rounds(fake_loop: MakeLoop) -> None:
    loop = fake_loop(wait_ms=2, work_ms=8, noise=0.3)
    m = measured(loop)
    with pytest.warns(InconclusiveWarning):
        profkit.assert_share(m, "dataloader", below=0.2, timeout_s=0.1)
    assert 40 < loop.steps < 80  # 0.1 s of fake time are some ten steps a round


def test_both_limits_hold_together(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop(wait_ms=4, work_ms=6))
    profkit.assert_share(m, "dataloader", above=0.3, below=0.5)
    with pytest.raises(AssertionError, match=r"should be above 50 %: fell"):
        profkit.assert_share(m, "dataloader", above=0.5, below=0.6)


def test_a_stage_that_was_never_seen_has_no_share(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop())
    with pytest.raises(LookupError, match="stage transfer was not observed"):
        profkit.assert_share(m, "transfer", below=0.5)
    with pytest.raises(InputError, match="unknown stage 'loader'"):
        profkit.assert_share(m, "loader", below=0.5)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "no limit"),
        ({"below": 0}, "above 0"),
        ({"below": 1.5}, "at most 1"),
        ({"below": 0.2, "above": 0.3}, "nothing lies in between"),
        ({"below": 20}, r"at most 1: 20 % is 0\.2"),
        ({"below": "20 %"}, "below='20 %', above=None: limits must be numbers"),
        ({"below": 0.2, "rounds": 0}, "rounds must be a whole number from 1"),
        ({"below": 0.2, "rounds": 2.5}, "rounds must be a whole number from 1"),
        ({"below": 0.2, "timeout_s": float("inf")}, "timeout_s a positive number"),
        ({"below": float("nan")}, "above 0"),
    ],
)
def test_what_is_no_assertion_is_refused(
    fake_loop: MakeLoop, limits: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        profkit.assert_share(measured(fake_loop()), "other", **limits)


@pytest.mark.parametrize(
    "limits", [{"below": float("inf")}, {"below": 2, "mean_below": 0}, {"above": -1}]
)
def test_a_ratio_is_held_against_numbers(fake_loop: MakeLoop, limits: dict[str, Any]) -> None:
    m = measured(fake_loop())
    with pytest.raises(InputError, match=r"must be (a number|numbers) above 0$"):
        profkit.assert_ratio(m, m, **limits)


def test_what_is_no_measurement_is_refused(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop())
    share: Any = m.share("dataloader")
    for assertion in (
        lambda: profkit.assert_share(share, "dataloader", below=0.2),
        lambda: profkit.assert_dominant(share, "dataloader"),
        lambda: profkit.assert_ratio(m, share, below=2),
        lambda: profkit.assert_ratio(share, m, below=2),
    ):
        with pytest.raises(InputError, match=r"a Quantity is no measurement: give what profkit\.m"):
            assertion()


def test_a_spent_loader_is_judged_by_what_there_is(fake_loop: MakeLoop) -> None:
    loop = fake_loop(wait_ms=2, work_ms=8, noise=0.3)
    m = profkit.measure(loop, iter(loop), steps=40, warmup=0)
    with pytest.warns(InconclusiveWarning):
        profkit.assert_share(m, "dataloader", below=0.2)
    assert loop.steps == 64  # what was left of the one epoch


# Dominance


def test_the_largest_stage_dominates_and_the_runner_up_is_named(
    fake_loop: MakeLoop, noted: list[object]
) -> None:
    m = measured(fake_loop(wait_ms=6, work_ms=4), name="train")
    profkit.assert_dominant(m, "dataloader")
    assert asserted(noted).result is Result.PASSED
    with pytest.raises(AssertionError) as caught:
        profkit.assert_dominant(m, "other")
    assert "other dominates the step of train: does not hold" in str(caught.value)
    assert re.search("runner-up: data wait with (59|60)", str(caught.value))


def test_equal_stages_are_inconclusive(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop(wait_ms=5, work_ms=5, noise=0.2))
    with pytest.warns(InconclusiveWarning, match="dataloader dominates"):
        profkit.assert_dominant(m, "dataloader", rounds=2)


def test_dominance_is_decided_by_the_difference_and_not_by_two_intervals(
    fake_loop: MakeLoop,
) -> None:
    """Both shares vary with a third one, so their intervals overlap; which is larger is clear."""

    draw = random.Random(1)
    loop = fake_loop(wait_ms=0, noise=0)

    def step(batch: int, clock: Any) -> None:
        loop._time.pass_ns(round(1e6 * draw.expovariate(0.5)))
        with clock.stage("forward"):
            loop._time.pass_ns(1_050_000)
        with clock.stage("backward"):
            loop._time.pass_ns(1_000_000)
        with clock.stage("forward"):
            loop._time.pass_ns(2_000_000)
        with clock.stage("backward"):
            loop._time.pass_ns(1_900_000)

    m = profkit.measure(step, loop, steps=60, warmup=0)
    forward, backward = m.share("forward"), m.share("backward")
    assert not backward < forward
    profkit.assert_dominant(m, "forward")


def test_a_limit_is_shown_as_it_was_given(fake_loop: MakeLoop) -> None:
    loop = fake_loop(wait_ms=6, work_ms=4)
    m = measured(loop, name="a")
    with pytest.raises(AssertionError, match=r"below 12\.125 %: (.|\n)* below 12\.125 %: fell"):
        profkit.assert_share(m, "dataloader", below=0.12125)
    with pytest.raises(AssertionError, match=r"above 1\.1255×: (.|\n)* above 1\.1255×: fell"):
        profkit.assert_ratio(m, m, above=1.1255)


# Ratios


def test_a_ratio_beyond_its_limit_fails_and_names_the_stage(fake_loop: MakeLoop) -> None:
    base = measured(fake_loop(wait_ms=1, work_ms=2), name="base")
    new = measured(fake_loop(wait_ms=1, work_ms=3, seed=1), name="new")
    with pytest.raises(AssertionError) as caught:
        profkit.assert_ratio(new, base, below=1.1)
    text = str(caught.value)
    assert "step of new over base below 1.1×: does not hold" in text
    assert re.search(r"typical step: 1\.3\d\d× \(95 % interval 1\.\d+ to 1\.\d+×\)", text)
    assert "stage other explains most: 3" in text
    assert "8 groups of four blocks in turns, 1 look" in text


def test_a_ratio_within_its_limit_passes_and_its_mirror_fails(
    fake_loop: MakeLoop, noted: list[object]
) -> None:
    base = measured(fake_loop(work_ms=2))
    new = measured(fake_loop(work_ms=2, seed=1))
    profkit.assert_ratio(new, base, below=1.1)
    assert asserted(noted).result is Result.PASSED
    with pytest.raises(AssertionError, match="should be above"):
        profkit.assert_ratio(new, base, above=1.1)


def test_a_ratio_at_its_limit_is_inconclusive(fake_loop: MakeLoop) -> None:
    base = measured(fake_loop(wait_ms=1, work_ms=1))
    new = measured(fake_loop(wait_ms=1.1, work_ms=1.1, seed=1))
    with pytest.warns(InconclusiveWarning, match="over"):
        profkit.assert_ratio(new, base, below=1.1, rounds=2)


def test_rare_slow_steps_fail_by_the_mean_which_is_named(fake_loop: MakeLoop) -> None:
    base = measured(fake_loop(wait_ms=0.5, work_ms=2))
    new = measured(fake_loop(wait_ms=0.5, work_ms=2, slow=15, seed=1))  # 10 times, one in 15
    with pytest.raises(AssertionError) as caught:
        profkit.assert_ratio(new, base, below=1.1)
    rows = str(caught.value).splitlines()
    typical = next(row for row in rows if row.strip().startswith("typical step"))
    mean = next(row for row in rows if row.strip().startswith("mean step"))
    assert not typical.endswith("fell")
    assert mean.endswith("should be below 1.21×: fell")


def test_batches_that_workers_make_in_bursts_are_not_free(fake_loop: MakeLoop) -> None:
    bursts = fake_loop(wait_ms=1.0, burst=4)
    bursts.num_workers = 2  # as a DataLoader says it
    workers, alone = measured(bursts), measured(fake_loop(wait_ms=1.0))
    # Most steps wait for nothing: their low quantile is half of what a step takes.
    profkit.assert_ratio(workers, alone, below=1.1, above=0.9)
    with pytest.raises(AssertionError, match=r"below 0\.75"):
        profkit.assert_ratio(workers, alone, below=0.75)


def test_a_stage_is_compared_alone(fake_loop: MakeLoop) -> None:
    base = measured(fake_loop(wait_ms=1, work_ms=2))
    new = measured(fake_loop(wait_ms=3, work_ms=2, seed=1))
    profkit.assert_ratio(new, base, stage="other", above=0.9, below=1.1)
    with pytest.raises(AssertionError, match="dataloader of measured"):
        profkit.assert_ratio(
            profkit.measure(lambda b: None, fake_loop(wait_ms=3), steps=20),
            profkit.measure(lambda b: None, fake_loop(wait_ms=1), steps=20),
            stage="dataloader",
            below=2,
        )
    with pytest.raises(LookupError, match="stage forward was not observed"):
        profkit.assert_ratio(new, base, stage="forward", below=1.1)


def test_loops_that_cannot_go_on_are_compared_by_their_own_intervals(
    fake_loop: MakeLoop, noted: list[object]
) -> None:
    def spent(work_ms: float) -> profkit.Measurement:
        loop = fake_loop(wait_ms=1, work_ms=work_ms, batches=40)
        return profkit.measure(loop, iter(loop), steps=40, warmup=0)

    base, new = spent(2), spent(3)
    profkit.assert_ratio(new, base, below=1.6)
    assert asserted(noted).notes[0].startswith("not in turns")
    with pytest.raises(AssertionError, match=r"mean step: 1\.3"):
        profkit.assert_ratio(new, base, below=1.1)


def test_what_disturbs_one_of_two_loops_is_said_of_that_one(fake_loop: MakeLoop) -> None:
    def spent(name: str, slow: int) -> profkit.Measurement:
        loop = fake_loop(wait_ms=1, work_ms=1, batches=100, slow=slow)
        return profkit.measure(loop, iter(loop), steps=100, warmup=0, name=name)

    with pytest.raises(AssertionError) as caught:
        profkit.assert_ratio(spent("calm", 0), spent("jumpy", 30), above=2)
    assert "of 20 blocks of jumpy" in str(caught.value)
    assert "blocks of calm" not in str(caught.value)


def test_what_could_not_be_seen_is_said(
    fake_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch  # noqa: F401  # without it nothing is hooked

    from profkit import loops

    gap = "Tensor.backward cannot be observed in this torch"
    monkeypatch.setattr(loops, "_hook", lambda clock, undo: [gap])
    m = measured(fake_loop(wait_ms=3, work_ms=7))
    with pytest.raises(AssertionError, match=f"\n  not seen: {gap}\n"):
        profkit.assert_share(m, "dataloader", below=0.2)
    with pytest.raises(AssertionError) as caught:
        profkit.assert_ratio(m, m, above=2)
    assert str(caught.value).count(gap) == 1
    with pytest.raises(LookupError, match=f"backward was not observed .*; {gap}"):
        m.share("backward")


def test_drift_is_named_where_it_is(fake_loop: MakeLoop) -> None:
    loop = fake_loop(wait_ms=1, work_ms=0)

    def slower(batch: int) -> None:
        loop.steps += 1
        loop._time.pass_ns(5_000_000 + 20_000 * loop.steps)

    with pytest.raises(AssertionError, match=r"drift: steps grew \d+ % longer while measured"):
        profkit.assert_share(
            profkit.measure(slower, loop, steps=60, warmup=0), "dataloader", above=0.9
        )


# The costliest line


def test_the_costliest_line_of_the_stage_that_failed_is_named() -> None:
    class Loader:
        def __iter__(self) -> Any:
            for batch in range(50):
                decoded = sum(i * i for i in range(3_000))  # the costly line
                yield batch + decoded

    m = profkit.measure(lambda batch: spin(0.0002), Loader(), steps=30)
    with pytest.raises(AssertionError) as caught:
        profkit.assert_share(m, "dataloader", below=0.01)
    line = next(row for row in str(caught.value).splitlines() if "costliest line" in row)
    assert "test_assertions.py" in line
    assert "the costly line" in line
    assert "of data wait)" in line


def test_what_cannot_be_looked_at_never_hides_the_failure(
    fake_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from profkit import loop_lines

    def cannot(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(loop_lines, "LoopSamples", cannot)
    m = measured(fake_loop(wait_ms=3, work_ms=7))
    with pytest.raises(AssertionError, match=r"costliest line: not known \(looking .*new thread"):
        profkit.assert_share(m, "dataloader", below=0.2)


def test_a_loop_that_breaks_meanwhile_does_not_hide_it_either(fake_loop: MakeLoop) -> None:
    loop = fake_loop(wait_ms=3, work_ms=7)

    def step(batch: int) -> None:
        if loop.steps >= 40:
            raise ValueError("out of data")
        loop(batch)

    m = profkit.measure(step, loop, steps=40, warmup=0)
    with pytest.raises(AssertionError, match=r"not known .*ValueError: out of data"):
        profkit.assert_share(m, "dataloader", below=0.2)


# How it ends


def test_warnings_that_are_errors_are_errors_without_pytests_plugin(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop(wait_ms=2, work_ms=8, noise=0.3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InconclusiveWarning):
            profkit.assert_share(m, "dataloader", below=0.2, rounds=1)


def test_the_warning_points_at_the_assertion(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop(wait_ms=2, work_ms=8, noise=0.3))
    with terms.under(terms.Terms()), pytest.warns(InconclusiveWarning) as caught:
        profkit.assert_share(m, "dataloader", below=0.2, rounds=1)
    assert caught[0].filename == __file__


def test_hostile_names_stay_on_one_line(fake_loop: MakeLoop) -> None:
    m = measured(fake_loop(wait_ms=3, work_ms=7), name="a\nb\x1b[31m" + "x" * 500)
    with pytest.raises(AssertionError) as caught:
        profkit.assert_share(m, "dataloader", below=0.2)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value).splitlines()[0]) < 200


# Real loops whose ratio is known


def test_a_real_ratio_and_a_real_share_are_judged_rightly() -> None:
    class Loader:
        def __iter__(self) -> Any:
            for batch in range(50):
                spin(0.001)
                yield batch

    def slow(batch: int) -> None:
        spin(0.003)

    def fast(batch: int) -> None:
        spin(0.001)

    base = profkit.measure(fast, Loader(), steps=40)
    new = profkit.measure(slow, Loader(), steps=40)
    profkit.assert_ratio(base, new, below=0.75)  # 2 ms over 4
    with pytest.raises(AssertionError, match=r"typical step: [12]"):
        profkit.assert_ratio(new, base, below=1.3)
    profkit.assert_dominant(new, "other")
    profkit.assert_share(new, "dataloader", below=0.4)  # a quarter
