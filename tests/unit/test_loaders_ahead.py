"""Loaders that fetch a batch ahead from another one, as those of some frameworks do."""

from typing import Any

import pytest
from torch.utils.data import DataLoader

from hooked_loop import BACKWARD, FETCH, FORWARD, STEP, Net, Samples, SlowSGD, hooked
from profkit.schema.run import LoaderFacts
from profkit.schema.steps import Flag

START, NONE = Flag.BLOCK_START, Flag(0)
FETCHED, LAST = ([ns, None, FORWARD, BACKWARD, STEP, 0] for ns in (2 * FETCH, 0))


class Ahead(DataLoader[Any]):
    """Its own iterator; asks for the first batch before it is asked (as Ray Train's does)."""

    def __init__(self, base: DataLoader[Any]) -> None:
        self.__dict__.update(base.__dict__)
        self._base = base

    def __iter__(self) -> Any:
        self._fetching = iter(self._base)
        self._next = next(self._fetching, None)
        return self

    def __next__(self) -> Any:
        batch = self._next
        if batch is None:
            raise StopIteration
        self._next = next(self._fetching, None)
        return batch


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_that_fetches_before_it_is_asked_opens_the_steps(workers: int) -> None:
    net = Net()
    optimizer = SlowSGD(net.parameters(), 0.1)
    base = DataLoader(Samples(6), batch_size=2, num_workers=workers)
    with hooked() as seen:
        for _ in range(2):
            for value, _ in Ahead(base):
                net(value).sum().backward()
                optimizer.step()
        assert seen.hooks.training_loader == LoaderFacts(
            "Ahead", 2, workers, None if workers == 0 else 2
        )
    if workers == 0:  # the time of others is not on this clock
        assert seen.rows == [FETCHED, FETCHED, LAST] * 2
    assert seen.flags == [START, NONE, NONE] * 2


def test_a_loader_that_is_left_and_begun_anew_opens_new_steps() -> None:
    net = Net()
    loader = Ahead(DataLoader(Samples(6), batch_size=2))
    with hooked() as seen:
        for _ in range(2):
            for number, (value, _) in enumerate(loader):
                net(value).sum().backward()
                if number == 1:
                    break
    assert seen.flags == [START, Flag.PARTIAL] * 2
    assert [row[0] for row in seen.rows] == [2 * FETCH] * 4
