"""What a batch costs, on a fake time: each part to the nanosecond."""

import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from conftest import FakeTime
from profkit.probe.batch_timer import LEAST_ASKED_NS, BatchTimer, attach, timed_fetch
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


class Watch:
    """The batches of a loader that the loop makes itself, timed."""

    def __init__(self, dataset: Any, collate_fn: Any = collate) -> None:
        self.rows: list[dict[str, int]] = []
        self.details: list[Any] = []
        self.batches: list[Any] = []
        names = ("start", "end", "cpu", "waited", "collate", "samples", "detailed")

        def done(batch: Any, row: Any, detail: Any) -> None:
            self.rows.append(dict(zip(names, row, strict=True)))
            self.details.append(detail)

        loader = DataLoader(dataset, batch_size=2, collate_fn=collate_fn)
        iterator = iter(loader)
        fetcher = iterator._dataset_fetcher  # type: ignore[attr-defined]
        attach(fetcher, BatchTimer(dataset, done, TIME, TIME, lambda: 0))
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
    # On a time that timing does not move it costs nothing.
    assert detailed == [0, 1, 1, 1, 1, 1]


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
    timer = BatchTimer(dataset, lambda *made: None, TIME, TIME, lambda: 0)
    iterator = iter(DataLoader(dataset, batch_size=2))
    fetcher = iterator._dataset_fetcher  # type: ignore[attr-defined]
    attach(fetcher, timer)
    timer._made = 1
    with pytest.raises(ValueError, match="bad sample"):
        timer.make(type(fetcher).fetch, fetcher, [0, 1])
    assert dataset.transform is fails


def test_calls_from_other_threads_do_not_count() -> None:
    import threading

    scale = Scale()
    times = PartTimes(find_parts(Items(scale)), TIME)
    times.begin()
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
    timer = BatchTimer(dataset, lambda *made: rows.append(made[1]), TIME, TIME, waited.__next__)
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
    fetcher = iter(DataLoader(Items(), collate_fn=collate))._dataset_fetcher  # type: ignore[attr-defined]
    timer = BatchTimer(Items(), lambda _, row, __: detailed.append(row[-1]), TIME, TIME, lambda: 0)
    batch = GET + COLLATE
    # What is timed lies within the batch: 1 of 101 parts.
    monkeypatch.setattr(PartTimes, "end", lambda self: ((), batch / 101))
    for _ in range(40):
        timer.make(type(fetcher).fetch, fetcher, [0])
    assert [i for i, timed in enumerate(detailed) if timed] == [1, 17, 33]
