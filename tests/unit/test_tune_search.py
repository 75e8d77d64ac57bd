"""The course of a tuning: what is tried in which order, and when it ends. Nothing is measured."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from profkit.errors import InputError
from profkit.schema.fix import Fix, FixFacts
from profkit.schema.gate import BlockPair
from profkit.schema.stage import STAGES, Stage
from profkit.schema.tuning import Gain, Trial, TuneFindings
from profkit.scripts.target import Target
from profkit.verify import looks
from profkit.verify import tune as tuning
from profkit.verify.equivalence import Likeness
from profkit.verify.look import Look
from profkit.verify.looks import probe_counts
from profkit.verify.merits import (
    adds,
    again,
    challenger,
    confirmed,
    is_doubted,
    leader,
    ranked,
    with_adds,
)
from profkit.verify.trial import Tried
from profkit.verify.tune import TuneOrder, most_runs
from tunings import BF16, FUSED, MEMORY, ONE_THREAD, TWO_WORKERS, ground, trial

STEP = {"dataloader": 60.0, "forward": 15.0, "backward": 15.0, "optimizer": 10.0}
TRIAL_S = 10.0


def test_the_best_comes_first_and_what_was_not_measured_last() -> None:
    one = trial(MEMORY, value=3.0)
    best, unsure = trial(BF16, value=4.0), trial(TWO_WORKERS, value=9.0, same=None)
    left, failed = trial(FUSED, gain=Gain.LEFT), trial(ONE_THREAD, gain=Gain.FAILED)
    assert ranked([left, one, unsure, failed, best]) == (best, one, unsure, left, failed)


def test_a_needless_fix_is_not_recommended() -> None:
    alone = trial(MEMORY, value=9.0)
    needless = trial(MEMORY, BF16, value=9.2, adds=False)
    found = ranked([needless, alone])
    assert found == (alone, needless)
    useful = trial(MEMORY, BF16, value=12.0, adds=True)
    assert ranked([alone, useful]) == (useful, alone)


def test_together_must_clearly_be_faster() -> None:
    alone = trial(MEMORY, value=3.0)
    assert adds(trial(MEMORY, BF16, value=3.5), alone)
    assert not adds(trial(MEMORY, BF16, value=3.1), alone)
    assert not adds(trial(MEMORY, BF16, value=3.5, same=False), alone)


def test_what_is_contradicted_is_doubted_and_the_second_time_counts() -> None:
    alone = trial(MEMORY, value=6.0)
    assert is_doubted(alone, trial(MEMORY, BF16, value=0.5, gain=Gain.SLOWER))
    assert not is_doubted(alone, trial(MEMORY, BF16, value=5.9))
    second = again(alone, trial(MEMORY, value=0.7, gain=Gain.SLOWER))
    assert not second.is_proven
    assert "6×, then 0.7×" in (second.reason or "")
    assert again(alone, trial(MEMORY, value=5.0)).is_proven


def test_of_the_best_the_second_time_counts() -> None:
    alone = trial(MEMORY, value=6.0)
    less = confirmed(alone, trial(MEMORY, value=5.0))
    assert less.is_proven
    assert (less.first, less.speedup) == (alone.speedup, trial(MEMORY, value=5.0).speedup)
    # What was proven is, where it wins again: it is no trial of many any more.
    assert confirmed(alone, trial(MEMORY, value=1.06, gain=Gain.UNCLEAR)).is_proven
    assert not confirmed(alone, trial(MEMORY, value=1.04, gain=Gain.UNCLEAR)).is_proven
    assert not confirmed(alone, trial(MEMORY, value=5.0, same=False)).is_proven


def test_luck_that_the_first_time_shared_is_no_merit_of_a_needless_fix() -> None:
    """Beside other processes all of them may win less."""
    best = confirmed(trial(MEMORY, value=2.4), trial(MEMORY, value=2.0))
    needless, other = trial(MEMORY, BF16, value=2.4), trial(TWO_WORKERS, value=2.2)
    assert leader([other, needless, best]) == best
    assert challenger([other, needless, best]) == other
    assert challenger([needless, best]) is None
    second = confirmed(other, trial(TWO_WORKERS, value=2.1))
    assert leader([second, needless, best]) == second
    assert challenger([second, needless, best]) is None


def test_a_pair_that_adds_nothing_to_one_of_its_parts_is_not_the_best() -> None:
    pair = trial(TWO_WORKERS, ONE_THREAD, value=1.31)
    part, other = trial(ONE_THREAD, value=1.30), trial(TWO_WORKERS, value=0.9, gain=Gain.SLOWER)
    for rows in ([pair, part, other], [other, part, pair]):
        found = leader(rows)
        assert found is not None
        assert found.fixes == (ONE_THREAD,)
    assert [one.adds for one in with_adds([pair, part, other])] == [False, None, None]
    much = trial(TWO_WORKERS, ONE_THREAD, value=1.6)
    best = leader([part, other, much])
    assert best is not None
    assert (best.name, best.adds) == (much.name, True)
    # No part of it is proven: nothing to hold it against.
    assert with_adds([much, other])[0].adds is None


def test_probes_are_few_and_others_than_what_there_is() -> None:
    assert probe_counts(0, 2) == (1, 2)
    assert probe_counts(2, 2) == (0,)
    assert probe_counts(1, 8) == (0, 8)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Course:
    """A tuning in which all that is measured is made up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        self.tried: list[str] = []
        self.kept: list[Trial] = []
        self.speedups: dict[str, float] = {}
        self.stages = [60.0, None, 15.0, 15.0, 10.0, None]
        self.same: bool | None = True
        self.start_s = 5.0
        self.limits_s: list[float] = []
        self.course: Any = None
        self.again: list[str] = []
        self.look_s = 4.0
        monkeypatch.setattr(tuning, "time", self.clock)
        monkeypatch.setattr(tuning, "places", self._places)
        monkeypatch.setattr(tuning, "AsItIs", self._as_it_is)
        monkeypatch.setattr(looks, "look_at", self._look)
        monkeypatch.setattr(looks, "time", self.clock)
        monkeypatch.setattr(tuning, "try_fixes", self._try)
        monkeypatch.setattr(tuning, "usable_cores", lambda: 2)

    def run(self, budget_s: float = 1000.0, **before: Trial) -> TuneFindings:
        tried = {one.name: one for one in before.values()}
        order = TuneOrder(Target("script", "train.py"), budget_s, tried)
        return tuning.tune(order, lambda what, share: None, self.kept.append)

    @contextmanager
    def _places(self, versions: Any, count: int) -> Iterator[Any]:
        place = SimpleNamespace(root=Path("nowhere"), directory=Path("nowhere"))
        version = SimpleNamespace(places=(place,), another=lambda: place)
        yield SimpleNamespace(versions=[version], gaps=())

    def _as_it_is(self, starts: Any, deadline: float) -> Any:
        self.clock.now += 5.0
        taken = tuple(self.stages)
        return SimpleNamespace(
            instances=[],
            facts=ground(**STEP).facts,
            fixes=FixFacts({}, (1,), (1.0,), "train.py:3"),
            likeness=Likeness(self.same, None if self.same else "unseeded"),
            blocks=BlockPair((0.0, 0.0), 20, 100.0, taken),
            end=lambda: self.tried.append("(others)"),
            start_s=self.start_s,
            workers=0,
        )

    def _look(self, place: Any, run: Path, limit_s: float, cores: int, fixes: Any) -> Look:
        self.limits_s.append(limit_s)
        self.clock.now += min(self.look_s, limit_s)
        return Look(self.course, cores, "nothing could be predicted")

    def _try(
        self,
        base: Any,
        starts: Any,
        fixes: tuple[Fix, ...],
        deadline: float,
        tell: Callable[[str], None],
        *,
        is_fine: bool = False,
        is_known: bool = False,
    ) -> Tried:
        self.clock.now += TRIAL_S
        name = " + ".join(fix.name for fix in fixes)
        self.tried.append(name)
        if is_known:
            self.again.append(name)
        alone = math.prod(self.speedups.get(fix.name, 1.0) for fix in fixes)
        value = self.speedups.get(name, alone)
        gain = Gain.FASTER if value > 1.02 else Gain.SLOWER if value < 0.98 else Gain.EQUAL
        found = trial(*fixes, value=value, gain=gain, same=self.same)
        taken = dict(zip(STAGES, self.stages, strict=True))
        if fixes[0].name == "data in memory":
            taken[Stage.DATALOADER] = 1.0
        return Tried(found, taken)


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch) -> Course:
    return Course(monkeypatch)


def test_the_most_promising_is_tried_first_and_each_is_kept(course: Course) -> None:
    course.speedups = {"data in memory": 2.4}
    found = course.run()
    assert course.tried[0] == "data in memory"
    assert found.best is not None
    assert found.best.name == "data in memory"
    tried = [name for name in course.tried if name != "(others)"]
    assert [one.name for one in course.kept] == tried
    *before, again = tried
    assert again == "data in memory"
    assert len(set(before)) == len(before)


def test_what_is_proven_is_combined_with_what_its_own_stages_leave(course: Course) -> None:
    course.speedups = {
        "data in memory": 2.4,
        "bf16 autocast": 1.1,
        "data in memory + bf16 autocast": 3.5,
        "data in memory + torch.compile": 2.4,
        "channels_last": 0.8,
    }
    found = course.run()
    assert found.best is not None
    assert found.best.name == "data in memory + bf16 autocast"
    together = [name for name in course.tried if name.startswith("data in memory + ")]
    # Without the data, the model holds most: bf16 first; what does harm alone, and what there is
    # no loader for, never.
    assert together[0] == "data in memory + bf16 autocast"
    assert not any("channels_last" in name or "worker" in name for name in together)
    assert all("bf16" in name for name in together)


def test_what_is_small_now_may_be_large_without_the_data(course: Course) -> None:
    course.stages[0] = 900.0  # beside which the optimizer holds 1 %
    course.speedups = {"data in memory": 9.0}
    found = course.run()
    assert "fused optimizer" not in course.tried
    assert "data in memory + fused optimizer" in course.tried
    alone = next(one for one in found.trials if one.name == "fused optimizer")
    assert (alone.gain, alone.reason) == (Gain.LEFT, "it cannot win more than 2 % here")


def test_the_budget_ends_it_and_leaves_time_for_combinations(course: Course) -> None:
    course.speedups = {"data in memory": 2.4}
    found = course.run(budget_s=70.0)
    assert course.clock.now <= 70.0 + TRIAL_S
    assert any(" + " in name and name.startswith("data in memory") for name in course.tried)
    left = [one for one in found.trials if one.gain is Gain.LEFT]
    assert {one.reason for one in left} >= {"the budget was spent"}
    # All of the catalogue is told of, with what it promises.
    assert all(one.predicted is not None for one in left if len(one.fixes) == 1)


def test_what_was_measured_before_is_not_measured_again(course: Course) -> None:
    course.speedups = {"data in memory": 2.4}
    before = trial(MEMORY, value=2.4, reach=0.04)
    found = course.run(budget_s=60.0, memory=before)
    assert course.tried.count("data in memory") == course.again.count("data in memory") == 1
    assert len(course.tried) > 3
    assert found.best is not None
    assert found.best.first == before.speedup  # chosen by that, and measured once more
    left = trial(MEMORY, gain=Gain.LEFT, reason="the budget was spent")
    course.run(budget_s=60.0, memory=left)
    assert course.tried.count("data in memory") == 3


def test_without_equal_results_nothing_is_proven_or_combined(course: Course) -> None:
    course.same = None
    course.speedups = {"data in memory": 2.4}
    found = course.run()
    assert found.best is None
    assert "unseeded" in found.gaps
    assert not any(name.startswith("data in memory + ") for name in course.tried)


def test_a_winner_that_is_contradicted_is_measured_again(course: Course) -> None:
    course.speedups = {
        "data in memory": 6.0,
        "data in memory + bf16 autocast": 0.5,
    }
    original = course._try

    def changing(*args: Any, **kwargs: Any) -> Tried:
        found = original(*args, **kwargs)
        if "data in memory + bf16 autocast" in course.tried:
            course.speedups["data in memory"] = 0.6
        return found

    course._try = changing  # type: ignore[method-assign]
    tuning.try_fixes = changing  # put back by monkeypatch
    found = course.run()
    assert course.tried.count("data in memory") == 2
    assert found.best is None
    assert course.tried[-1] == "(others)"
    memory = next(one for one in found.trials if one.name == "data in memory")
    assert "measured twice: 6×, then 0.6×" in (memory.reason or "")
    assert memory.predicted is not None


def test_another_one_is_promoted_once_the_leader_was_lucky(course: Course) -> None:
    """Memory looks twice as fast, is not, and hid that bf16 beside it adds something."""
    together = "data in memory + bf16 autocast"
    course.speedups = {"data in memory": 2.4, together: 1.6}
    original = course._try

    def unlucky(*args: Any, **kwargs: Any) -> Tried:
        found = original(*args, **kwargs)
        if together in course.tried:
            course.speedups["data in memory"] = 1.2
        return found

    tuning.try_fixes = unlucky  # put back by monkeypatch
    found = course.run()
    assert found.best is not None
    assert (found.best.name, found.best.adds) == (together, True)
    # It goes on from there, not from what it was.
    assert any(name.startswith(f"{together} + ") for name in course.tried)


def test_the_best_is_measured_again_by_others_and_that_counts(course: Course) -> None:
    course.speedups = {"data in memory": 2.4}
    original = course._try

    def less(*args: Any, **kwargs: Any) -> Tried:
        if kwargs["is_known"]:
            course.speedups["data in memory"] = 2.0
        return original(*args, **kwargs)

    tuning.try_fixes = less  # put back by monkeypatch
    found = course.run(budget_s=70.0)
    assert course.again == ["data in memory"]
    best = found.best
    assert best is not None
    assert best.speedup is not None
    assert best.first is not None
    assert (best.speedup.value, best.first.value) == (2.0, 2.4)
    assert found.trials[0].predicted is not None
    assert course.clock.now <= 70.0
    assert not any("not measured again" in gap for gap in found.gaps)


def test_two_that_are_proven_alone_are_tried_together_before_the_best_once_more(
    course: Course,
) -> None:
    course.stages = [5.0, None, 45.0, 45.0, 5.0, None]
    course.speedups = {"bf16 autocast": 1.4, "channels_last": 1.5}
    # Begun at 9 s; 4 s are kept for the end, and a third of the rest for the best once more:
    # that is begun at 29 s, but for these two.
    found = course.run(budget_s=43.0)
    both = "channels_last + bf16 autocast"
    assert course.tried == ["bf16 autocast", "channels_last", both, "(others)"]
    assert found.best is not None
    assert found.best.name == both
    assert any("was not measured again" in gap for gap in found.gaps)
    # Of what is not proven alone nothing is known that would be worth as much.
    course.tried.clear()
    course.clock.now = 0.0
    course.speedups = {"bf16 autocast": 1.0, "channels_last": 1.5}
    course.run(budget_s=43.0)
    assert course.tried == ["bf16 autocast", "channels_last", "channels_last", "(others)"]


def test_a_best_that_could_not_be_measured_again_says_so(course: Course) -> None:
    course.speedups = {"data in memory": 2.4}
    found = course.run(budget_s=18.0)  # one trial, and it is over
    assert found.best is not None
    assert found.best.first is None
    assert any("data in memory was not measured again" in gap for gap in found.gaps)


def test_one_that_then_looks_better_is_measured_again_too(course: Course) -> None:
    course.speedups = {"data in memory": 2.4, "2 workers": 2.2}
    original = course._try

    def less(*args: Any, **kwargs: Any) -> Tried:
        if course.tried[-1:] == ["(others)"]:
            course.speedups |= {"data in memory": 1.5, "2 workers": 2.1}
        return original(*args, **kwargs)

    tuning.try_fixes = less  # put back by monkeypatch
    found = course.run()
    assert course.tried[-4:] == ["(others)", "data in memory", "2 workers", "(others)"]
    assert found.best is not None
    assert found.best.name == "2 workers"
    assert found.best.first is not None


@pytest.mark.parametrize(
    "before",
    [
        trial(MEMORY, gain=Gain.FAILED, same=None, reason="the program ended with it (no room)"),
        trial(MEMORY, gain=Gain.UNCLEAR, reason="2 blocks of each, too few"),
    ],
)
def test_what_may_have_been_chance_is_tried_again(course: Course, before: Trial) -> None:
    course.speedups = {"data in memory": 2.4}
    found = course.run(memory=before)
    assert found.best is not None
    assert found.best.name == "data in memory"


def test_what_a_fix_itself_refused_is_not_tried_again(course: Course) -> None:
    before = replace(trial(MEMORY, gain=Gain.FAILED, reason="a random transform"), refused=True)
    found = course.run(memory=before)
    assert "data in memory" not in course.tried
    assert before.reason in {one.reason for one in found.trials}


def test_looks_take_their_part_of_the_budget_at_most(course: Course) -> None:
    course.course, course.look_s = object(), 1000.0
    course.start_s = 3.0
    probes_of = tuning.Looks.take  # what a made-up course predicts is not asked
    seen: list[Look] = []

    def take(self: Any) -> Look:
        seen.append(probes_of(self))
        return Look(None, 2)

    tuning.Looks.take = take  # type: ignore[method-assign]
    try:
        found = course.run(budget_s=100.0)
        assert course.limits_s == [10.0, 10.0]
        assert found.looks_s == 20.0
        assert len(seen[0].probes) == 1
        course.limits_s.clear()
        course.clock.now = 0.0
        found = course.run(budget_s=40.0)
        assert course.limits_s == [8.0]  # and none at other numbers of workers
        course.limits_s.clear()
        course.clock.now, course.start_s = 0.0, 9.0
        found = course.run(budget_s=40.0)
        assert (course.limits_s, found.looks_s) == ([], 0.0)
        assert "too much for a budget of 40 s" in (seen[-1].gap or "")
    finally:
        tuning.Looks.take = probes_of  # type: ignore[method-assign]


def test_it_says_beforehand_how_often_it_starts_the_program() -> None:
    assert most_runs(120.0) == 1 + 2 + 2 * 2 + 2 * 24
    assert most_runs(240.0) > most_runs(120.0)


@pytest.mark.parametrize("budget_s", [0.0, 5.0, float("nan")])
def test_a_budget_for_nothing_is_refused(course: Course, budget_s: float) -> None:
    with pytest.raises(InputError, match="too small"):
        course.run(budget_s=budget_s)
