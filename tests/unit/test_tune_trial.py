"""When a trial is over, what it means, and what goes wrong in one. No process is started."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conftest import make_steps
from profkit.analyze.gate import sum_up
from profkit.analyze.statistics import LogRatio
from profkit.schema.fix import Fix, FixFacts, Knob
from profkit.schema.gate import Round
from profkit.schema.paced import Block
from profkit.schema.run import LoaderFacts
from profkit.schema.stage import Stage
from profkit.schema.steps import Flag, StepTable
from profkit.schema.tuning import Gain, Trial
from profkit.verify import duel, trial
from profkit.verify.duel import LOOKS
from profkit.verify.equivalence import Likeness
from profkit.verify.instance import GoneError, LateError
from profkit.verify.starts import SpentError
from profkit.verify.trial import (
    ERROR_RATE,
    gain_of,
    is_clear,
    patience_s,
    ratio_of,
    slot_s,
    try_fixes,
)
from tunings import BF16, MEMORY, TWO_WORKERS

LOSSES = (2.3, 2.1, 1.9, 1.7)


def ratio(value: float, reach: float) -> LogRatio:
    """A speedup whose interval reaches so far, as a logarithm."""
    return LogRatio(math.log(value), reach / 1.96, 1e6, 100)


@pytest.mark.parametrize(
    ("value", "reach", "expected"),
    [
        (1.5, 0.05, Gain.FASTER),
        (1.05, 0.048, Gain.UNCLEAR),  # of ten fixes that win nothing one looks like that
        (1.01, 0.001, Gain.EQUAL),  # surely faster, and not worth a line
        (1.0, 0.015, Gain.EQUAL),
        (1.0, 0.1, Gain.UNCLEAR),
        (0.9, 0.05, Gain.SLOWER),
    ],
)
def test_what_a_speedup_means(value: float, reach: float, expected: Gain) -> None:
    assert gain_of(ratio(value, reach)) is expected


def test_a_fix_that_wins_nothing_is_hardly_ever_faster_at_any_of_the_looks() -> None:
    """The looks share the error rate: each has what was measured by then."""
    draw = np.random.default_rng(0)
    tunings, error = 4000, 0.02
    found = 0
    for _ in range(tunings):
        seen = np.cumsum(draw.normal(0, error, len(LOOKS))) / np.arange(1, len(LOOKS) + 1)
        errors = error / np.sqrt(np.arange(1, len(LOOKS) + 1))
        ratios = [LogRatio(one, each, 60, 60) for one, each in zip(seen, errors, strict=True)]
        found += any(gain_of(one) is Gain.FASTER for one in ratios)
    assert found / tunings < ERROR_RATE
    assert gain_of(ratio(1.05, 0.025)) is Gain.FASTER


@pytest.mark.parametrize(
    ("value", "reach", "rough", "fine"),
    [
        (9.0, 0.2, True, False),  # 7.4 to 11: what to do is clear
        (9.0, 0.5, False, False),
        (1.1, 0.019, True, True),
        (1.1, 0.05, False, False),
        (0.8, 0.15, True, True),  # it will not be worth it
        (1.0, 0.1, False, False),
    ],
)
def test_when_there_is_enough(value: float, reach: float, rough: bool, fine: bool) -> None:
    assert is_clear(ratio(value, reach), 20) is rough
    assert is_clear(ratio(value, reach), 20, is_fine=True) is fine
    assert not is_clear(ratio(value, reach), 2)
    assert not is_clear(None, 20)


def test_patience_goes_by_the_start_of_the_program_and_leaves_the_others_time() -> None:
    assert patience_s(2.0, (BF16,), 1000.0) == 15.0
    assert patience_s(20.0, (BF16,), 1000.0) == 100.0
    assert patience_s(2.0, (MEMORY,), 1000.0) == 75.0
    assert patience_s(20.0, (BF16,), 60.0) == 30.0


def test_slow_steps_are_measured_for_longer() -> None:
    assert slot_s(5e6, 0) == 10.0
    assert slot_s(1e9, 0) > 36  # four blocks of a step or more, eight times
    assert slot_s(50e6, 4) > slot_s(50e6, 0)


def steps_of(*taken_us: float, gap_us: float = 0.0, every: int = 8, first: int = 0) -> StepTable:
    """Steps that take turns in what they take; a gap lies before every eighth one."""
    count = 21
    numbers = first + np.arange(count)
    each = np.array([1000 * taken_us[i % len(taken_us)] for i in numbers])
    steps = make_steps({Stage.FORWARD: each}, count)
    late = np.cumsum(np.where(numbers % every == 0, 1000 * gap_us, 0)).astype(np.int64)
    return replace(steps, start_ns=steps.start_ns + late, end_ns=steps.end_ns + late)


def speedup_of(base: Callable[[int], StepTable], new: Callable[[int], StepTable]) -> float:
    """Measured in blocks that begin anywhere."""
    draw = np.random.default_rng(0)
    rounds = []
    for number in range(64):
        pairs = [
            sum_up([Block(make(int(draw.integers(32))), 0) for _ in range(2)], with_gaps=True)
            for make in (base, new)
        ]
        rounds.append(Round(number % 2, float(number), *pairs))
    found = ratio_of(rounds)
    assert found is not None
    return found.estimate.value


def test_slow_steps_count_by_the_time_that_they_take() -> None:
    """Of four steps, one has the optimizer's work: typical steps say nothing of it."""

    def with_slow(fast: float, slow: float) -> Callable[[int], StepTable]:
        return lambda first: steps_of(fast, fast, fast, slow, first=first)

    base = with_slow(10, 100)
    assert speedup_of(base, with_slow(5, 95)) == pytest.approx(130 / 110, rel=0.03)
    assert speedup_of(base, with_slow(10, 60)) == pytest.approx(130 / 90, rel=0.03)
    assert speedup_of(with_slow(10, 20), with_slow(9.5, 30)) == pytest.approx(50 / 58.5, rel=0.03)


def test_workers_that_start_between_epochs_are_part_of_what_they_give() -> None:
    found = speedup_of(
        lambda first: steps_of(5000, first=first),
        lambda first: steps_of(3000, gap_us=30_000, first=first),
    )
    assert found == pytest.approx(40 / 54, rel=0.05)


def test_an_evaluation_between_epochs_is_no_training() -> None:
    def evaluated(first: int) -> StepTable:
        steps = steps_of(100, first=first)
        steps.flags[5:9] |= int(Flag.EVALUATION)
        return steps

    assert speedup_of(lambda first: steps_of(100, first=first), evaluated) == pytest.approx(1.0)


# Trials, with instances that are made up --------------------------------------------------------


class MadeUp:
    """An instance whose steps take so many us."""

    is_started = False

    def __init__(self, launch: Any) -> None:
        self.launch = launch
        self.is_over = False
        self.facts: Any = SimpleNamespace(
            step_ns=launch.step_us * 1000,
            loader=LoaderFacts("DataLoader", 4, 0, None),
            fixes=FixFacts(
                launch.failures, launch.batches, LOSSES, "train.py:3", once_s=launch.once_s
            ),
        )

    def start(self) -> None:
        self.is_started = True

    def wait_until_warm(self, deadline: float) -> None:
        assert self.is_started
        self.launch.warm()

    def run_block(self, steps: int, deadline: float) -> Any:
        self.launch.block()
        self.launch.asked.append(steps)
        gap_us = self.launch.gap_us
        return steps_of(self.launch.step_us, gap_us=gap_us, every=1), 0

    def ask_fixes(self, deadline: float) -> FixFacts:
        found: FixFacts = self.facts.fixes
        return replace(found, failures={**found.failures, **self.launch.later})

    def end(self) -> None:
        self.is_over = True


class Made:
    """Starts them: those with fixes as told."""

    def __init__(self, second: Any = None, **fixed: Any) -> None:
        self._fixed = fixed
        self._second = second or {}
        self._others = 0
        self.started = 0
        self.asked: tuple[list[int], list[int]] = ([], [])

    def launch(self, order: Any, name: str) -> Any:
        self.started += 1
        about: dict[str, Any] = {
            "step_us": 2000,
            "gap_us": 0,
            "failures": {},
            "batches": (1, 2),
            "warm": lambda: None,
            "block": lambda: None,
            "later": {},
            "once_s": None,
            "asked": self.asked[bool(order.settings)],
        }
        if order.settings:
            self._others += 1
            about |= self._fixed if self._others == 1 else {**self._fixed, **self._second}
        return SimpleNamespace(name=name, warmup=12, **about)

    def keep_only(self, instances: Any) -> None:
        self.kept = list(instances)


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def tried(
    monkeypatch: pytest.MonkeyPatch,
    fix: Fix = BF16,
    lasts_s: float = 0.4,
    base_block: Callable[[], None] = lambda: None,
    make_ready: Callable[[], None] = lambda: None,
    **fixed: Any,
) -> Trial:
    """The trial of a fix, and that the program as it is goes on afterwards."""
    monkeypatch.setattr(trial, "Instance", MadeUp)
    monkeypatch.setattr(duel, "Instance", MadeUp)
    monkeypatch.setattr(duel, "end_all", lambda instances: [one.end() for one in instances])
    monkeypatch.setattr(trial, "end_all", lambda instances: [one.end() for one in instances])
    monkeypatch.setattr(trial, "slot_s", lambda step_ns, workers: lasts_s)
    starts: Any = Made(**fixed)
    none = SimpleNamespace(settings={})
    as_it_is = [starts.launch(none, "the program as it is") for _ in range(2)]
    for launch in as_it_is:
        launch.block = base_block
    base: Any = SimpleNamespace(
        instances=[MadeUp(launch) for launch in as_it_is],
        facts=SimpleNamespace(step_ns=2_000_000),
        fixes=FixFacts({}, (1, 2), LOSSES, "train.py:3"),
        likeness=Likeness(True),
        workers=0,
        start_s=1.0,
        make_ready=lambda deadline: make_ready(),
    )
    found = try_fixes(base, starts, (fix,), time.monotonic() + 60, lambda what: None)
    assert len(base.instances) == 2
    assert starts.kept == base.instances
    assert not any(one.is_over for one in base.instances)
    return found.trial


def test_a_fix_that_halves_the_step_is_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, step_us=1000)
    assert found.speedup is not None
    assert found.speedup.value == pytest.approx(2.0, rel=0.01)
    assert found.is_proven


def test_what_lies_between_its_steps_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, step_us=1000, gap_us=1500)
    assert found.speedup is not None
    assert found.speedup.value == pytest.approx(0.8, rel=0.01)
    assert found.gain is Gain.SLOWER


def test_other_batches_are_measured_and_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, TWO_WORKERS, step_us=1000, batches=(1, 3))
    assert (found.gain, found.same, found.is_proven) == (Gain.FASTER, False, False)
    assert "batches differ" in (found.reason or "")


def test_what_could_not_be_applied_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, MEMORY, failures={Knob.DATA.value: "a random transform"})
    assert (found.gain, found.reason) == (Gain.FAILED, "a random transform")


def test_a_crash_at_the_start_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, warm=raising(GoneError("RuntimeError: no bf16")))
    assert (found.gain, found.reason) == (
        Gain.FAILED,
        "the program ended with it (RuntimeError: no bf16)",
    )


def test_a_crash_again_and_again_later_ends_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, block=raising(GoneError("RuntimeError: later")), lasts_s=5.0)
    assert found.gain is Gain.FAILED
    assert "RuntimeError: later" in (found.reason or "")


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, warm=raising(LateError()))
    assert found.gain is Gain.FAILED
    assert (found.reason or "").startswith("it was not warm after 15 s")
    found = tried(monkeypatch, block=raising(LateError()))
    assert found.gain is Gain.FAILED
    assert "no block of it ended" in (found.reason or "")


def test_what_may_not_start_any_more_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, warm=raising(SpentError("started 29 times, as often as was said")))
    assert (found.gain, found.reason) == (Gain.LEFT, "started 29 times, as often as was said")


def test_each_of_its_instances_must_apply_it_and_train_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = tried(monkeypatch, MEMORY, step_us=1000, second={"failures": {"x": "not there"}})
    assert (found.gain, found.reason, found.is_final) == (Gain.FAILED, "not there", True)
    found = tried(monkeypatch, MEMORY, step_us=1000, second={"batches": (1, 3)})
    assert (found.gain, found.same) == (Gain.FASTER, False)


def test_what_fails_while_it_is_measured_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tried(monkeypatch, MEMORY, step_us=1000, second={"later": {"x": "no longer"}})
    assert (found.gain, found.reason) == (Gain.FAILED, "no longer")


def test_one_that_was_started_anew_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [GoneError("exit code 0")]

    def block() -> None:
        if left:
            raise left.pop()

    # The third one with the fix is the one that replaces the first.
    found = tried(monkeypatch, MEMORY, 1.0, step_us=1000, block=block)
    assert found.same is True
    left.append(GoneError("exit code 0"))
    kinds = iter(((1, 2), (1, 2), (1, 3)))
    original = Made.launch

    def launch(starts: Made, order: Any, name: str) -> Any:
        made = original(starts, order, name)
        made.batches = next(kinds) if order.settings else made.batches
        return made

    monkeypatch.setattr(Made, "launch", launch)
    found = tried(monkeypatch, MEMORY, 1.0, step_us=1000, block=block)
    assert found.same is False


def test_the_end_of_the_program_as_it_is_is_not_blamed_on_a_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = raising(GoneError("exit code 1: port 29500 in use"))
    words = "the program as it is ended (exit code 1: port 29500 in use)"
    found = tried(monkeypatch, make_ready=gone)
    assert (found.gain, found.reason) == (Gain.LEFT, words)
    original = Made.launch

    def launch(starts: Made, order: Any, name: str) -> Any:
        made = original(starts, order, name)
        made.block = made.block if order.settings else gone
        return made

    monkeypatch.setattr(Made, "launch", launch)
    found = tried(monkeypatch, base_block=gone, lasts_s=5.0)
    assert (found.gain, found.reason) == (Gain.LEFT, words)
    assert not found.is_final


def test_a_hang_of_the_program_as_it_is_is_not_blamed_on_a_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = tried(monkeypatch, base_block=raising(LateError()))
    assert found.gain is Gain.LEFT
    assert (found.reason or "").startswith("no block of the program as it is ended within")


def test_what_is_taken_once_is_part_of_no_step_and_won_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = tried(monkeypatch, MEMORY, step_us=1000, once_s=3.0)
    assert found.speedup is not None
    assert found.speedup.value == pytest.approx(2.0, rel=0.01)
    assert (found.once_s, found.pays_after) == (3.0, 3000)  # at 1 ms a step
    assert tried(monkeypatch, MEMORY, step_us=3000, once_s=3.0).pays_after is None


def test_nothing_is_started_for_a_trial_that_has_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(trial, "Instance", lambda launch: started.append(launch))
    base: Any = SimpleNamespace(
        start_s=10.0,
        make_ready=lambda deadline: None,
        instances=[],
        fixes=FixFacts({}, (1, 2), LOSSES, "train.py:3"),
    )
    starts: Any = Made()
    late = time.monotonic() + 15.0
    found = try_fixes(base, starts, (BF16,), late, lambda what: None)
    assert (found.trial.gain, found.trial.reason) == (Gain.LEFT, "the budget was spent")
    assert started == []


def test_blocks_take_about_as_long_however_much_faster_a_fix_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a pause caches are cold: in blocks of two steps each is the first one."""
    asked: list[list[int]] = []
    launch = Made.launch

    def noted(self: Made, order: Any, name: str) -> Any:
        asked[:] = self.asked
        return launch(self, order, name)

    monkeypatch.setattr(Made, "launch", noted)
    tried(monkeypatch, step_us=200)
    slow, fast = (sum(one) / len(one) for one in asked)
    assert fast > 5 * slow
