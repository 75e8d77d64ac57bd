import copy
import gc
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from hooked_loop import (
    BACKWARD,
    FETCH,
    FORWARD,
    STEP,
    TIME,
    Net,
    Samples,
    SlowSGD,
    hooked,
)
from profkit.schema.steps import Flag

START, NONE = Flag.BLOCK_START, Flag(0)
WHOLE = [2 * FETCH, None, FORWARD, BACKWARD, STEP, 0]


class Trainer:
    """A model, and an optimizer for it."""

    def __init__(self) -> None:
        self.net = Net()
        self.optimizer = SlowSGD(self.net.parameters(), lr=0.01)

    def train(self, value: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        self.net(value).sum().backward()
        self.optimizer.step()


@pytest.fixture
def trainer() -> Trainer:
    return Trainer()


def loader(count: int = 6, **settings: Any) -> DataLoader[Any]:
    return DataLoader(Samples(count), batch_size=2, **settings)


class Endless(IterableDataset[torch.Tensor]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[torch.Tensor]:
        for _ in range(self.count):
            TIME.pass_ns(FETCH)
            yield torch.ones(3)


def test_an_iterable_dataset_is_waited_for(trainer: Trainer) -> None:
    with hooked() as seen:
        for value in DataLoader(Endless(5), batch_size=2):
            trainer.train(value)
    assert seen.rows == [WHOLE, WHOLE, [FETCH, *WHOLE[1:]]]
    assert seen.samples == [2, 2, 1]


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("persistent", [False, True], ids=["anew", "persistent"])
def test_workers_are_waited_for_and_their_start_is_outside(
    trainer: Trainer, context: str, persistent: bool
) -> None:
    data = TensorDataset(torch.ones(8, 3))
    batches = DataLoader(
        data,
        batch_size=2,
        num_workers=1,
        persistent_workers=persistent,
        multiprocessing_context=context,
    )
    with hooked() as seen:
        for (value,) in batches:  # left early
            trainer.train(value)
            break
        # Nobody sees that a loop over persistent workers is left before it begins anew.
        TIME.pass_ns(0 if persistent else 1_000_000)
        for _ in range(1 if context == "spawn" else 2):
            for (value,) in batches:
                trainer.train(value)
            TIME.pass_ns(1_000_000)
    epochs = [START, NONE, NONE, NONE] * (1 if context == "spawn" else 2)
    assert seen.rows == [[0, *WHOLE[1:]]] * (1 + len(epochs))
    assert seen.flags == [START | Flag.PARTIAL, *epochs]


def test_an_epoch_that_is_left_early_ends_with_a_partial_step(trainer: Trainer) -> None:
    with hooked() as seen:
        for _ in range(2):
            for number, (value, _) in enumerate(loader(20)):
                trainer.train(value)
                if number == 2:
                    break
            TIME.pass_ns(1_000_000)
    assert seen.rows == [WHOLE] * 6
    assert seen.flags == [START, NONE, Flag.PARTIAL] * 2


def test_an_iterator_in_a_cycle_closes_its_step_when_it_is_collected(trainer: Trainer) -> None:
    with hooked() as seen:
        cycle: list[Any] = [iter(loader(20))]
        cycle.append(cycle)
        trainer.train(next(cycle[0])[0])
        del cycle
        gc.collect()
        for value, _ in loader(4):
            trainer.train(value)
    assert seen.flags == [START | Flag.PARTIAL, START, NONE]


def test_zipped_loaders_make_one_step(trainer: Trainer) -> None:
    with hooked() as seen:
        for (value, _), (other, _) in zip(loader(), loader(20), strict=False):
            trainer.train(value + other)
    assert seen.rows == [[4 * FETCH, *WHOLE[1:]]] * 3
    assert seen.clock.evaluation_batches == 0


def test_transforms_that_are_modules_are_data_wait(trainer: Trainer) -> None:
    class Noise(nn.Module):
        def forward(self, value: torch.Tensor) -> torch.Tensor:
            TIME.pass_ns(3)
            return value.to(torch.float64).to("cpu").float()

    class Transformed(Dataset[torch.Tensor]):
        def __init__(self) -> None:
            self.values = torch.ones(6, 3)
            self.transform = nn.Sequential(Noise(), nn.Dropout(0.1))

        def __len__(self) -> int:
            return len(self.values)

        def __getitem__(self, index: int) -> torch.Tensor:
            return self.transform(self.values[index])

    with hooked() as seen:
        for value in DataLoader(Transformed(), batch_size=2):
            trainer.train(value)
    assert seen.rows == [[2 * 3, *WHOLE[1:]]] * 3
    assert seen.clock.forwards == 3


def test_how_the_trained_batches_are_made_is_known(trainer: Trainer) -> None:
    with hooked() as seen:
        for value, _ in loader(8):
            trainer.net(value)
        for value, _ in DataLoader(Samples(6), batch_size=3):
            trainer.train(value)
    facts = seen.hooks.loaders[seen.clock.training_loop]
    assert (facts.source, facts.batch_size, facts.num_workers) == ("DataLoader", 3, 0)


def test_settings_of_a_strange_kind_are_numbers_or_nothing(trainer: Trainer) -> None:
    class Strange(DataLoader[Any]):
        @property
        def prefetch_factor(self) -> int:
            raise LookupError("set by the cluster")

        @prefetch_factor.setter
        def prefetch_factor(self, _: object) -> None: ...

    with hooked() as seen:
        for value, _ in Strange(Samples(4), batch_size=2, num_workers=np.int64(0)):
            trainer.train(value)
    facts = seen.hooks.loaders[seen.clock.training_loop]
    assert type(facts.num_workers) is int
    assert facts.prefetch_factor is None


# Loaders derived from DataLoader ------------------------------------------------------------------


class Ahead(DataLoader[Any]):
    """Fetches one batch ahead, as Accelerate does to know which batch is the last one."""

    def __iter__(self) -> Any:
        batches = super().__iter__()
        try:
            current = next(batches)
        except StopIteration:
            return
        for following in batches:
            yield current
            current = following
        yield current


class Passing(DataLoader[Any]):
    """Does something else when an epoch begins."""

    def __iter__(self) -> Any:
        self.epochs = getattr(self, "epochs", 0) + 1
        return super().__iter__()


class Wrapped:
    """An iterator with more than a batch to give."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches
        self.count = 0

    def __iter__(self) -> "Wrapped":
        return self

    def __next__(self) -> Any:
        batch = next(self.batches)
        TIME.pass_ns(1)
        self.count += 1
        return batch


class Slotted:
    """An iterator of which nobody can be told that it is gone."""

    __slots__ = ("batches",)

    def __init__(self, batches: Iterator[Any]) -> None:
        self.batches = batches

    def __next__(self) -> Any:
        return next(self.batches)


class Wrapping(DataLoader[Any]):
    def __iter__(self) -> Any:
        return Wrapped(super().__iter__())


class Slotting(DataLoader[Any]):
    def __iter__(self) -> Any:
        return Slotted(super().__iter__())


class Mapping(DataLoader[Any]):
    def __iter__(self) -> Any:
        return map(tuple, super().__iter__())


class ItsOwn(DataLoader[Any]):
    def __iter__(self) -> Any:
        self.batches = super().__iter__()
        return self

    def __next__(self) -> Any:
        return next(self.batches)


DERIVED = [Ahead, Passing, Wrapping, Slotting, Mapping, ItsOwn]


@pytest.mark.parametrize("derived", DERIVED)
def test_a_derived_loader_gives_one_step_a_batch(
    trainer: Trainer, derived: type[DataLoader[Any]]
) -> None:
    def run(kind: type[DataLoader[Any]]) -> list[list[int | None]]:
        with hooked() as seen:
            for _ in range(2):
                batches = iter(kind(Samples(6), batch_size=2))
                while True:
                    batch = next(batches, None)
                    if batch is None:
                        break
                    trainer.train(batch[0])
                TIME.pass_ns(1_000_000)
        assert seen.flags == [START, NONE, NONE] * 2
        assert seen.samples == [2] * 6
        assert seen.hooks.loaders[seen.clock.training_loop].source == kind.__name__
        return seen.rows

    rows = run(derived)
    extra = 1 if derived is Wrapping else 0
    once = [2 * FETCH + extra, *WHOLE[1:]]
    # Who fetches ahead waits for two batches at first, and for none at last.
    epoch = [[4 * FETCH, *WHOLE[1:]], once, [0, *WHOLE[1:]]] if derived is Ahead else [once] * 3
    assert rows == epoch * 2


def test_a_loader_derived_while_hooked_is_seen_as_one_from_before(trainer: Trainer) -> None:
    with hooked() as seen:

        class Late(DataLoader[Any]):
            def __init_subclass__(cls, *, name: str) -> None:
                super().__init_subclass__()
                cls.name = name

            def __iter__(self) -> Any:
                yield from super().__iter__()

        class Later(Late, name="later"):
            def __iter__(self) -> Any:
                for batch in super().__iter__():
                    TIME.pass_ns(2)
                    yield batch

        for value, _ in Later(Samples(4), batch_size=2):
            trainer.train(value)
    assert Later.name == "later"
    # After the last batch nothing takes its time any more.
    assert seen.rows == [[2 * FETCH + 2, *WHOLE[1:]]] * 2
    assert "__init_subclass__" not in vars(DataLoader)


@pytest.mark.parametrize("derived", [*DERIVED, DataLoader])
def test_iterators_keep_their_type_and_length(derived: type[DataLoader[Any]]) -> None:
    def look() -> tuple[type, int | None]:
        batches = iter(derived(Samples(6), batch_size=2))
        return type(batches), len(batches) if hasattr(batches, "__len__") else None

    plain = look()
    with hooked():
        assert look() == plain or derived is Mapping
    assert look() == plain


def test_an_iterator_of_ones_own_is_left_early(trainer: Trainer) -> None:
    with hooked() as seen:
        for value, _ in Wrapping(Samples(8), batch_size=2):
            trainer.train(value)
            break
        TIME.pass_ns(1_000_000)
        batches = iter(Wrapping(Samples(4), batch_size=2))
        for value, _ in batches:
            trainer.train(value)
        assert batches.count == 2
    assert seen.flags == [START | Flag.PARTIAL, START, NONE]


def test_a_probe_meets_each_loader_before_its_workers_start() -> None:
    met: list[tuple[Any, Any]] = []
    with hooked() as seen:
        seen.hooks.on_loader = lambda one: met.append((one, one._iterator))
        for kind in (DataLoader, Passing, Ahead, Wrapping):
            one = kind(Samples(4), batch_size=2)
            for _ in one:
                pass
            assert met.pop() == (one, None)
    assert met == []


def test_a_probe_that_fails_stops_no_training(trainer: Trainer) -> None:
    def fail(_: object) -> None:
        raise ArithmeticError("of the probe")

    with hooked() as seen:
        seen.hooks.on_loader = seen.hooks.on_module = fail
        for value, _ in loader(4):
            trainer.train(value)
        assert len(seen.hooks.gaps) == 2
    assert seen.rows == [WHOLE] * 2


def test_the_start_of_workers_within_a_request_is_outside_of_the_step(trainer: Trainer) -> None:
    class Starting(Ahead):
        def _get_iterator(self) -> Any:
            TIME.pass_ns(1_000_000)  # what it takes to start processes
            return super()._get_iterator()

    with hooked() as seen:
        for _ in range(2):
            data = TensorDataset(torch.ones(4, 3))
            for (value,) in Starting(data, 2, num_workers=1, multiprocessing_context="fork"):
                trainer.train(value)
    assert seen.rows == [[0, *WHOLE[1:]]] * 4
    assert seen.flags == [START, NONE] * 2


def test_a_loader_is_copied_and_pickled_as_ever() -> None:
    with hooked():
        one = DataLoader(TensorDataset(torch.arange(4)), batch_size=2)
        iter(one)
        for twin in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert [batch[0].tolist() for batch in twin] == [[0, 1], [2, 3]]
    assert vars(twin).keys() == vars(DataLoader(TensorDataset(torch.arange(4)))).keys()


def test_what_is_sent_to_the_generator_of_a_loader_arrives() -> None:
    told: list[str] = []

    class Told(DataLoader[Any]):
        def __iter__(self) -> Any:
            for batch in super().__iter__():
                told.append((yield batch))

    with hooked():
        batches = iter(Told(range(6), batch_size=2))  # type: ignore[arg-type]
        next(batches)
        batches.send("more")  # type: ignore[attr-defined]
        next(batches)
    assert told == ["more", None]
