"""What a batch costs, on a fake time: each part to the nanosecond."""

import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from conftest import FakeTime
from profkit.probe.batch_timer import (
    DETAILS,
    LEAST_ASKED_NS,
    MOST_EVERY,
    BatchTimer,
    Spacing,
    attach,
    timed_fetch,
)
from profkit.probe.part_finder import find_parts
from profkit.probe.part_times import PartTimes
from profkit.schema.loader import UNKNOWN, PartKind

TIME = FakeTime()
GET, SCALE, SHIFT, COLLATE = 7, 3, 5, 11


class Scale:
    def __call__(self, x: Any) -> Any:
        TIME.pass_ns(SCALE)
        return x


def shift(x: Any) -> Any:
    TIME.pass_ns(SHIFT)
    return x


class Chain:
    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)

    def __call__(self, x: Any) -> Any:
        TIME.pass_ns(1)
        for step in self.steps:
            x = step(x)
        return x


class Items(Dataset[int]):
    def __init__(self, transform: Any = None) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> int:
        TIME.pass_ns(GET)
        return i if self.transform is None else self.transform(i)


class Stream(IterableDataset[int]):
    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __iter__(self) -> Any:
        for i in range(12):
            yield self.transform(i)


def collate(samples: Any) -> Any:
    TIME.pass_ns(COLLATE)
    return samples


def timer_of(
    dataset: Any, done: Any, spacing: Spacing | None = None, **settings: Any
) -> BatchTimer:
    """On the fake time."""
    tell = settings.pop("tell", pytest.fail)
    waited = settings.pop("waited", lambda: 0)
    return BatchTimer(dataset, done, spacing or Spacing(), tell, TIME, TIME, waited)


class Watch:
    """The batches of a loader that the loop makes itself, timed."""

    def __init__(
        self,
        dataset: Any,
        collate_fn: Any = collate,
        spacing: Spacing | None = None,
        **loading: Any,
    ) -> None:
        self.gaps: list[str] = []
        self.rows: list[dict[str, int]] = []
        self.details: list[Any] = []
        self.batches: list[Any] = []
        names = ("start", "end", "cpu", "waited", "collate", "samples", "detailed")

        def done(batch: Any, row: Any, detail: Any) -> None:
            self.rows.append(dict(zip(names, row, strict=True)))
            self.details.append(detail)

        loader = DataLoader(dataset, **({"batch_size": 2} | loading), collate_fn=collate_fn)
        iterator = iter(loader)
        fetcher = iterator._dataset_fetcher  # type: ignore[attr-defined]
        attach(fetcher, timer_of(dataset, done, spacing, tell=self.gaps.append))
        fetch = timed_fetch(type(fetcher).fetch)
        fetcher.fetch = functools.partial(fetch, fetcher)
        self.batches = list(iterator)

    def parts(self, batch: int) -> dict[str, tuple[int, int]]:
        detail = self.details[batch]
        return {one["name"]: (one["total_ns"], one["calls"]) for one in detail["parts"]}


def test_every_batch_has_its_whole_and_its_collation() -> None:
    watch = Watch(Items())
    assert watch.batches == [[2 * i, 2 * i + 1] for i in range(6)]
    assert [row["end"] - row["start"] for row in watch.rows] == [2 * GET + COLLATE] * 6
    assert [row["collate"] for row in watch.rows] == [COLLATE] * 6
    assert [row["cpu"] for row in watch.rows] == [2 * GET + COLLATE] * 6
    assert {row["samples"] for row in watch.rows} == {2}
    assert {row["waited"] for row in watch.rows} == {UNKNOWN}, "they are too short to ask"


@pytest.mark.parametrize("transform", [Scale(), shift, functools.partial(shift), Scale().__call__])
def test_a_transform_is_timed_whatever_it_is(transform: Any) -> None:
    watch = Watch(Items(transform))
    ((name, found),) = watch.parts(1).items()
    assert found == (2 * (SCALE if "Scale" in name else SHIFT), 2)


def test_nested_ones_have_each_their_own_time() -> None:
    watch = Watch(Items(Chain(Scale(), Chain(shift, Scale()))))
    assert watch.parts(1) == {
        "Chain": (2 * 1, 2),
        "Chain > Scale": (2 * SCALE, 2),
        "Chain > Chain": (2 * 1, 2),
        "Chain > Chain > shift": (2 * SHIFT, 2),
        "Chain > Chain > Scale": (2 * SCALE, 2),
    }


def test_two_of_a_kind_are_told_apart() -> None:
    dataset = Items(Chain(Scale(), Scale(), Scale()))
    transforms = [one for one in find_parts(dataset) if one.kind is PartKind.TRANSFORM]
    names = [one.name for one in transforms]
    assert names == ["Chain", "Chain > Scale", "Chain > Scale (2)", "Chain > Scale (3)"]


def test_a_model_among_them_is_one_part() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            TIME.pass_ns(9)
            return x

    watch = Watch(Items(Net()))
    assert watch.parts(1) == {"Net": (18, 2)}


def test_torchvisions_compose_only_calls_what_it_holds() -> None:
    from profkit.workloads.torchvision_repair import import_torchvision

    import_torchvision()
    from torchvision import transforms
    from torchvision.transforms import v2

    first = transforms.Compose([Scale(), transforms.Lambda(shift)])
    assert Watch(Items(first)).parts(1) == {"Scale": (2 * SCALE, 2), "shift": (2 * SHIFT, 2)}
    second = v2.Compose([v2.Identity(), Scale(), v2.Lambda(shift)])
    found = Watch(Items(second)).parts(1)
    assert found["Scale"] == (2 * SCALE, 2)
    assert found["shift"] == (2 * SHIFT, 2)
    assert found["Identity"] == (0, 2)


@pytest.mark.parametrize(
    "wrap", [lambda one: Subset(one, range(12)), lambda one: ConcatDataset([one])]
)
def test_wrapped_datasets_are_looked_into(wrap: Any) -> None:
    assert Watch(wrap(Items(Scale()))).parts(1) == {"Scale": (2 * SCALE, 2)}


def test_a_stream_too() -> None:
    assert Watch(Stream(shift)).parts(1) == {"shift": (2 * SHIFT, 2)}


def test_what_is_called_to_collate_is_no_part_of_fetching() -> None:
    dataset = Items(shift)

    def collate_with_it(samples: Any) -> Any:
        TIME.pass_ns(COLLATE)
        return [dataset.transform(sample) for sample in samples]

    watch = Watch(dataset, collate_with_it)
    assert watch.parts(1) == {"shift": (4 * SHIFT, 4)}
    assert watch.details[1]["in_collate_ns"] == 2 * SHIFT


def test_one_batch_in_a_few_has_its_parts_timed() -> None:
    detailed = [row["detailed"] for row in Watch(Items(Scale())).rows]
    assert detailed[:2] == [0, 1]
    # On a time that timing does not move it costs nothing; still most are left alone.
    assert detailed == [0, 1, 0, 0, 0, 1]


def test_afterwards_everything_is_as_it_was() -> None:
    chain = Chain(Scale(), shift)
    dataset = Items(chain)
    before = (dict(Scale.__dict__), dict(Chain.__dict__), list(chain.steps), dict(vars(dataset)))
    Watch(dataset)
    after = (dict(Scale.__dict__), dict(Chain.__dict__), list(chain.steps), dict(vars(dataset)))
    assert before == after


def test_an_exception_comes_through_and_leaves_no_wrapper() -> None:
    def fails(x: Any) -> Any:
        raise ValueError("bad sample")

    dataset = Items(fails)
    timer = timer_of(dataset, lambda *made: None, Spacing(1))
    iterator = iter(DataLoader(dataset, batch_size=2))
    fetcher = iterator._dataset_fetcher  # type: ignore[attr-defined]
    attach(fetcher, timer)
    with pytest.raises(ValueError, match="bad sample"):
        timer.make(type(fetcher).fetch, fetcher, [0, 1])
    assert dataset.transform is fails


def test_calls_from_other_threads_do_not_count() -> None:
    import threading

    scale = Scale()
    times = PartTimes(find_parts(Items(scale)), TIME)
    times.begin(TIME)
    thread = threading.Thread(target=scale, args=(1,))
    thread.start()
    thread.join()
    scale(1)
    (found,), _ = times.end()
    assert (found.total_ns, found.calls) == (SCALE, 1)


def test_waits_for_a_core_are_asked_for_where_batches_take_long() -> None:
    waited = iter(range(0, 1_000, 10))

    class Slow(Items):
        def __getitem__(self, i: int) -> int:
            TIME.pass_ns(LEAST_ASKED_NS)
            return i

    rows: list[Any] = []
    dataset = Slow()
    timer = timer_of(dataset, lambda *made: rows.append(made[1]), waited=waited.__next__)
    fetcher = iter(DataLoader(dataset))._dataset_fetcher  # type: ignore[attr-defined]
    for _ in range(3):
        timer.make(type(fetcher).fetch, fetcher, [0])
    assert [row[3] for row in rows] == [UNKNOWN, 10, 10]


def test_what_does_not_say_how_it_is_called_is_left_alone() -> None:
    class Shy(Dataset[Any]):
        __slots__ = ("x",)

        def __getitem__(self, i: int) -> Any:
            return torch.zeros(1)

        def __len__(self) -> int:
            return 4

    # What decodes is there for whatever calls it.
    for dataset in (Shy(), [1, 2, 3], None):
        assert {one.kind for one in find_parts(dataset)} <= {PartKind.DECODE}


def test_the_dearer_timing_is_the_fewer_batches_have_their_parts_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Timing that would alone take 1 % of a batch takes 8 % of it, and 0.5 % on average may go."""
    detailed: list[int] = []
    dataset = Items(shift)
    fetcher = iter(DataLoader(dataset, collate_fn=collate))._dataset_fetcher  # type: ignore[attr-defined]
    timer = timer_of(dataset, lambda _, row, __: detailed.append(row[-1]))
    batch = GET + SHIFT + COLLATE
    # What is timed lies within the batch: 1 of 101 parts.
    end = PartTimes.end
    monkeypatch.setattr(PartTimes, "end", lambda self: (end(self)[0], batch / 101))
    for _ in range(40):
        timer.make(type(fetcher).fetch, fetcher, [0])
    assert [i for i, timed in enumerate(detailed) if timed] == [1, 17, 33]


def test_where_nothing_is_to_be_timed_batches_are_left_alone() -> None:
    spacing = Spacing(10 * MOST_EVERY + 1)
    rows: list[Any] = []
    fetcher = iter(DataLoader(Items(), collate_fn=collate))._dataset_fetcher  # type: ignore[attr-defined]
    timer = timer_of(Items(), lambda *made: rows.append(made[1:]), spacing)
    for _ in range(3 * MOST_EVERY):
        timer.make(type(fetcher).fetch, fetcher, [0])
    # Whatever decodes is looked at where a library is loaded, but then it is never called.
    assert all(row[-1] == 0 or not detail["parts"] for row, detail in rows)
    assert sum(row[-1] for row, _ in rows) <= 3


@pytest.mark.parametrize("made", [0, 1, 2, 5, 100, 5 * DETAILS, 1_000 * DETAILS])
def test_a_new_worker_goes_on_where_those_before_it_stopped(made: int) -> None:
    spacing = Spacing(made)
    assert made <= spacing.due <= made + max(4, made // DETAILS)
    assert spacing.due % max(4, made // DETAILS) == 1


def test_details_grow_with_the_logarithm_of_batches() -> None:
    spacing, count = Spacing(), 0
    for _ in range(1 << 20):
        spacing.made += 1
        if spacing.made > spacing.due:
            count += 1
            spacing.timed(0, 1, True)
    assert DETAILS < count < 10 * DETAILS


def test_epochs_of_one_batch_have_theirs_timed_too() -> None:
    spacing = Spacing()
    detailed = [
        row["detailed"]
        for _ in range(6)
        for row in Watch(Subset(Items(shift), [0, 1]), collate, spacing).rows
    ]
    assert detailed == [0, 1, 0, 0, 0, 1]


def test_looking_for_parts_is_paid_for_by_batches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It took as long as 5 % of a batch, and 0.5 % on average may go."""
    batch = 2 * (GET + SHIFT) + COLLATE

    def dear(dataset: Any) -> Any:
        TIME.pass_ns(2 * batch)
        return find_parts(dataset)

    monkeypatch.setattr("profkit.probe.batch_timer.find_parts", dear)
    spacing = Spacing()
    dataset = Subset(Items(shift), [0, 1])
    detailed = [row["detailed"] for _ in range(80) for row in Watch(dataset, collate, spacing).rows]
    assert [i for i, timed in enumerate(detailed) if timed] == [1, 1 + MOST_EVERY + 1]


def test_the_last_batch_of_a_stream_holds_what_it_holds() -> None:
    watch = Watch(Stream(shift), batch_size=5)
    assert [row["samples"] for row in watch.rows] == [5, 5, 2]


def test_what_is_no_batch_of_samples_says_nothing_of_their_number() -> None:
    assert {row["samples"] for row in Watch(Items(), batch_size=None).rows} == {UNKNOWN}


class Settings:
    """Answers to any name, but not at once."""

    def __init__(self) -> None:
        self.__dict__["known"] = {"a": 1}
        self.__dict__["asked"] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return self.known[name]


def test_looking_runs_no_code_of_the_programs() -> None:
    class Configured(Items):
        def __init__(self) -> None:
            super().__init__(shift)
            self.settings = Settings()

    dataset = Configured()
    watch = Watch(dataset)
    assert watch.parts(1) == {"shift": (2 * SHIFT, 2)}
    assert dataset.settings.asked == []
    assert watch.gaps == []


@pytest.mark.parametrize("fails", ["begin", "end"])
def test_what_goes_wrong_with_parts_reaches_no_training(
    fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = getattr(PartTimes, fails)

    def broken(self: Any, *args: Any) -> Any:
        whole(self, *args)
        raise RuntimeError("unheard of")

    monkeypatch.setattr(PartTimes, fails, broken)
    dataset = Items(shift)
    watch = Watch(dataset)
    assert watch.batches == [[2 * i, 2 * i + 1] for i in range(6)]
    assert watch.gaps == ["the parts of batches were not timed: RuntimeError('unheard of')"]
    assert dataset.transform is shift
    monkeypatch.undo()
    assert Watch(dataset).parts(1), "and the next one may"


def test_what_goes_wrong_with_telling_reaches_no_training() -> None:
    def broken(*made: Any) -> None:
        raise OSError("no space")

    gaps: list[str] = []
    fetcher = iter(DataLoader(Items(), collate_fn=collate))._dataset_fetcher  # type: ignore[attr-defined]
    timer = timer_of(Items(), broken, tell=gaps.append)
    assert timer.make(type(fetcher).fetch, fetcher, [3]) == [3]
    assert gaps == ["what a batch cost its producer was not recorded: OSError('no space')"]
