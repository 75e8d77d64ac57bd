"""Wrappers around parts: whoever looks sees none, and none stays."""

import copy
import functools
import gc
import inspect
import os
import pickle
import random
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from profkit.probe.part_finder import find_parts
from profkit.probe.part_times import PartTimes, are_in_place
from profkit.probe.stand_in import StandIn
from profkit.schema.loader import PartKind


def double(x: Any, times: int = 2) -> Any:
    """A transform."""
    return times * x


def negate(x: Any) -> Any:
    return -x


@functools.lru_cache(None)
def cached(x: Any) -> Any:
    return x


class Plus:
    def __init__(self, one: int = 1) -> None:
        self.one = one

    def __call__(self, x: Any, *, much: bool = False) -> Any:
        return x + self.one


class PlusMore(Plus):
    pass


class Static:
    @staticmethod
    def __call__(x: Any) -> Any:
        return x


class Keeper:
    """Whoever has parts timed."""


HERE, OTHER = Keeper(), Keeper()


class Held:
    """A dataset that holds what it is given."""

    def __init__(self, **held: Any) -> None:
        vars(self).update(held)

    def __getitem__(self, i: int) -> Any:
        return i


@contextmanager
def timed(dataset: Any) -> Iterator[dict[str, int]]:
    """One batch with its parts timed; how often each was called is there at its end."""
    times = PartTimes(find_parts(dataset))
    calls: dict[str, int] = {}
    assert times.begin(HERE)
    try:
        yield calls
    finally:
        found, _ = times.end()
        calls.update((one.name, one.calls) for one in found if one.kind is PartKind.TRANSFORM)


def names(dataset: Any) -> list[str]:
    return [one.name for one in find_parts(dataset) if one.kind is PartKind.TRANSFORM]


# What the program does meanwhile -------------------------------------------------------------


def test_what_was_put_there_since_stays() -> None:
    dataset = Held(t=double)
    times = PartTimes(find_parts(dataset))
    dataset.t = negate
    assert not times.begin(HERE)
    assert (times.is_stale, are_in_place(HERE), dataset.t) == (True, False, negate)


def test_what_is_put_there_meanwhile_stays() -> None:
    dataset = Held(t=double)
    with timed(dataset):
        dataset.t = negate
    assert dataset.t is negate


def test_a_list_that_is_shuffled_meanwhile_holds_what_it_held() -> None:
    functions = [double, negate, cached, abs]
    dataset = Held(steps=list(functions), last=double)
    for seed in range(20):
        with timed(dataset):
            random.Random(seed).shuffle(dataset.steps)
            dataset.last = dataset.steps[0]
        expected = list(functions)
        random.Random(seed).shuffle(expected)
        assert all(x is y for x, y in zip(dataset.steps, expected, strict=True))
        assert dataset.last is expected[0]
        functions = expected


def test_a_list_that_becomes_shorter_or_longer_too() -> None:
    dataset = Held(steps=[double, negate])
    with timed(dataset):
        dataset.steps.pop()
        dataset.steps += dataset.steps
    assert dataset.steps[0] is dataset.steps[1] is double


def test_what_is_kept_beyond_the_batch_calls_the_function_and_counts_nothing() -> None:
    dataset = Held(t=double)
    with timed(dataset) as calls:
        kept = dataset.t
        kept(1)
    assert (kept(3), calls) == (6, {"double": 1})
    assert names(Held(t=kept)) == []


def test_a_class_below_another_is_told_apart() -> None:
    dataset = Held(a=Plus(), b=PlusMore(2))
    with timed(dataset) as calls:
        assert (dataset.a(1), dataset.b(1)) == (2, 3)
    assert calls == {"Plus": 1, "PlusMore": 1}
    assert "__call__" not in vars(PlusMore)


# What the program sees -----------------------------------------------------------------------


def test_what_stands_in_for_a_function_passes_for_it() -> None:
    dataset = Held(t=double)
    with timed(dataset):
        seen: Any = dataset.t
        assert seen is not double
        assert (seen.__name__, seen.__doc__, seen.__module__) == (
            "double",
            "A transform.",
            __name__,
        )
        assert isinstance(seen, FunctionType)
        assert inspect.signature(seen) == inspect.signature(double)
        assert seen == double
        assert double == seen
        assert {double: 1}[seen] == 1
        assert [double, negate].index(seen) == 0
        assert (repr(seen), callable(seen)) == (repr(double), True)
        seen.mark = 7
        assert double.mark == 7  # type: ignore[attr-defined]
        del seen.mark
        with pytest.raises(AttributeError, match="'function' object has no attribute"):
            seen.unheard_of()
    assert not hasattr(double, "mark")


def test_one_that_is_only_half_made_can_be_looked_at() -> None:
    """As is done with all arguments of a function in which a signal's handler raised."""
    half = StandIn.__new__(StandIn)
    assert not isinstance(half, tuple)
    with pytest.raises(AttributeError):
        half.anything()


def test_a_partial_function_says_what_it_is_given() -> None:
    dataset = Held(t=functools.partial(double, times=3))
    with timed(dataset) as calls:
        assert isinstance(dataset.t, functools.partial)
        assert (dataset.t.keywords, dataset.t.func, dataset.t(2)) == ({"times": 3}, double, 6)
    assert calls == {"double": 1}


def test_copies_and_pickles_are_of_the_function_itself() -> None:
    dataset = Held(t=double, steps=[np.log1p, len], u=Plus())
    with timed(dataset):
        copies = [copy.copy(dataset.t), copy.deepcopy(dataset.t), copy.deepcopy(dataset).t]
        content = pickle.dumps(dataset)
        with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
            pickle.dumps(Held(t=dataset.t, u=lambda: 0))
    assert all(one is double for one in copies)
    assert b"profkit" not in content.replace(__name__.encode(), b"")
    found = pickle.loads(content)
    assert (found.t, found.steps) == (double, [np.log1p, len])
    assert (found.t is double, type(found.u)) == (True, Plus)


def test_a_class_says_how_it_is_called() -> None:
    dataset = Held(t=Plus())
    known = inspect.signature(dataset.t)
    with timed(dataset):
        assert inspect.signature(dataset.t) == known
        assert type(dataset.t).__call__.__qualname__ == "Plus.__call__"


def test_what_binds_its_call_in_its_own_way_is_left_alone() -> None:
    dataset = Held(t=Static())
    with timed(dataset) as calls:
        assert dataset.t(5) == 5
    assert calls == {}


# Other threads and processes -----------------------------------------------------------------


def test_one_batch_at_a_time_has_its_parts_timed() -> None:
    dataset = Held(t=double, u=Plus())
    first, second = PartTimes(find_parts(dataset)), PartTimes(find_parts(dataset))
    assert first.begin(HERE)
    assert not second.begin(OTHER)
    assert not second.is_stale
    first.end()
    assert second.begin(OTHER)
    second.end()
    assert (dataset.t is double, are_in_place(HERE)) == (True, False)


def test_what_somebody_left_who_was_interrupted_is_taken_away() -> None:
    dataset = Held(t=double, u=Plus())
    before = Plus.__call__
    keeper = Keeper()
    first, second = PartTimes(find_parts(dataset)), PartTimes(find_parts(dataset))
    assert first.begin(keeper)
    assert are_in_place(OTHER)
    # The same one again: it was never ended.
    assert not are_in_place(keeper)
    assert (dataset.t is double, Plus.__call__ is before) == (True, True)
    assert first.begin(keeper)
    del keeper
    assert second.begin(OTHER)
    second.end()
    assert (dataset.t is double, Plus.__call__ is before) == (True, True)


def test_threads_over_one_dataset_leave_nothing_behind() -> None:
    dataset = Held(t=double, u=Plus())
    before = Plus.__call__

    def go() -> None:
        keeper = Keeper()
        for _ in range(50):
            times = PartTimes(find_parts(dataset))
            if times.begin(keeper):
                dataset.u(dataset.t(1))
                times.end()

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (dataset.t is double, Plus.__call__ is before) == (True, True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_meanwhile_has_no_wrapper() -> None:
    dataset = Held(t=double, steps=[negate], u=Plus())
    before = Plus.__call__
    times = PartTimes(find_parts(dataset))
    assert times.begin(HERE)
    child = os.fork()
    if not child:
        clean = dataset.t is double and dataset.steps[0] is negate and Plus.__call__ is before
        times.end()
        free = PartTimes(find_parts(dataset)).begin(OTHER)
        os._exit(0 if clean and free else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert dataset.t is not double
    times.end()
    assert dataset.t is double


# What is kept --------------------------------------------------------------------------------


def test_wrappers_keep_no_data_alive() -> None:
    gc.disable()
    try:
        dataset = Held(t=double, u=Plus(), data=np.zeros(3))
        gone = weakref.ref(dataset.data)
        times = PartTimes(find_parts(dataset))
        assert times.begin(HERE)
        kept = dataset.t
        times.end()
        del times, dataset
        assert gone() is None
        assert kept(1) == 2
    finally:
        gc.enable()


# Where parts are found -----------------------------------------------------------------------


@dataclass(slots=True)
class Slotted:
    transform: Any
    missing: Any = None

    def __getitem__(self, i: int) -> Any:
        return self.transform(i)


class OfItsClass:
    transform = Plus()
    log = np.log1p

    def __getitem__(self, i: int) -> Any:
        return self.log(self.transform(i))

    def helps(self) -> None:
        pass


class Hidden:
    def __init__(self) -> None:
        self._transform = double
        self.__other = Plus()

    def __getitem__(self, i: int) -> Any:
        return self.__other(self._transform(i))


@pytest.mark.parametrize(
    ("dataset", "expected", "use"),
    [
        (Hidden(), ["double", "Plus"], lambda it: it[0]),
        (OfItsClass(), ["Plus", "log1p"], lambda it: it[0]),
        (Slotted(double), ["double"], lambda it: it[0]),
        (
            Held(t={"train": {"image": double}}, u=[[Plus()]]),
            ["double", "Plus"],
            lambda it: it.u[0][0](it.t["train"]["image"](1)),
        ),
        (
            Held(t=np.log1p, c=cached, up=str.upper),
            ["log1p", "cached", "str.upper"],
            lambda it: (it.t(1.0), it.c(1), it.up("x")),
        ),
    ],
)
def test_parts_are_found_and_timed_wherever_they_are_held(
    dataset: Any, expected: list[str], use: Any
) -> None:
    assert names(dataset) == expected
    before = use(dataset)
    with timed(dataset) as calls:
        assert use(dataset) == before
    assert calls == dict.fromkeys(expected, 1)


def test_what_only_refers_to_something_is_no_part() -> None:
    owner = Plus()
    assert names(Held(owner=weakref.ref(owner), of=list[int], kind=dict)) == []


def test_much_data_hides_no_transform() -> None:
    rows = [[i, {"a": i}] for i in range(250)]
    assert names(Held(rows=rows, more=[list(row) for row in rows], steps=[Plus()])) == ["Plus"]


def test_what_refers_to_itself_is_gone_through_once() -> None:
    steps: list[Any] = [Plus()]
    steps.append(steps)
    assert names(Held(steps=steps)) == ["Plus"]
