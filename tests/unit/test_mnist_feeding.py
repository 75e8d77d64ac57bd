"""What feeds a training: each image once an epoch, in the order asked for."""

from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from experiments.mnist import feeding
from experiments.mnist.feeding import Feed, Resident, open_feed
from experiments.mnist.recipe import Recipe, changed

IMAGES = torch.arange(10.0).view(10, 1, 1, 1)
LABELS = torch.arange(10)


def labels_of(batches: Resident) -> list[list[int]]:
    found = []
    for images, labels in batches:
        assert torch.equal(images.flatten().to(torch.int64), labels)
        found.append(labels.tolist())
    return found


def test_as_they_lie_and_the_same_in_each_epoch() -> None:
    batches = Resident(IMAGES, LABELS, 4)
    assert labels_of(batches) == labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(batches) == 3


def test_the_ragged_last_batch_may_be_left_out() -> None:
    batches = Resident(IMAGES, LABELS, 4, drop_last=True)
    assert labels_of(batches) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(batches) == 2


def test_each_epoch_has_an_order_of_its_own_by_the_seed() -> None:
    batches = Resident(IMAGES, LABELS, 4, torch.Generator().manual_seed(3))
    first, second = labels_of(batches), labels_of(batches)
    assert first != second
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(10))
    again = Resident(IMAGES, LABELS, 4, torch.Generator().manual_seed(3))
    assert labels_of(again) == first


def test_what_is_left_out_of_a_shuffled_epoch_differs() -> None:
    batches = Resident(IMAGES, LABELS, 4, torch.Generator().manual_seed(3), drop_last=True)
    left = [set(range(10)) - set(chain(*labels_of(batches))) for _ in range(4)]
    assert all(len(one) == 2 for one in left)
    assert len({frozenset(one) for one in left}) > 1


class Drawn(Dataset[tuple[Tensor, int]]):
    """Samples that tell their row, through a transform that says by whom it was set."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.transform: Callable[[int], Tensor] | None = None

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        assert self.transform is not None
        return self.transform(row), row


def a_loader_s_feed(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], *, is_validated: bool
) -> Feed:
    monkeypatch.setattr(feeding, "VALIDATION", 30)
    monkeypatch.setattr(feeding, "open_dataset", lambda files, train: Drawn(130 if train else 50))
    monkeypatch.setattr(
        feeding,
        "sample_transform",
        lambda data, is_trained_on: lambda row: torch.tensor(float(is_trained_on)),
    )
    data = changed(Recipe(), {"data.batch_size": 32, "data.test_batch_size": 25, **changes}).data
    files: Any = None  # not read
    device = torch.device("cpu")
    return open_feed(files, data, device=device, seed=1, is_validated=is_validated)


@pytest.mark.parametrize("is_validated", [False, True])
def test_a_dataloader_gives_what_is_trained_on_in_a_new_order_and_tests_the_rest(
    is_validated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = a_loader_s_feed(monkeypatch, {}, is_validated=is_validated)
    first = torch.cat([rows for _, rows in feed.train]).tolist()
    second = torch.cat([rows for _, rows in feed.train]).tolist()
    tested = torch.cat([rows for _, rows in feed.test]).tolist()
    assert first != second
    trained_on = list(range(100 if is_validated else 130))
    assert sorted(first) == sorted(second) == trained_on
    assert tested == (list(range(100, 130)) if is_validated else list(range(50)))
    assert feed.test_count == len(tested)
    # Left-out training images are tested as they are: nothing of them changes at random.
    assert all(images.all() for images, _ in feed.train)
    assert not any(images.any() for images, _ in feed.test)


def test_a_dataloader_leaves_out_a_ragged_batch_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert len(a_loader_s_feed(monkeypatch, {}, is_validated=False).train) == 5
    ragged = {"data.drop_last": True}
    assert len(a_loader_s_feed(monkeypatch, ragged, is_validated=False).train) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"data.side": 20}, "only resident data is cut"), ({"data.reshuffle": False}, "a new order")],
)
def test_what_a_dataloader_cannot_do_is_refused(
    changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=words):
        a_loader_s_feed(monkeypatch, changes, is_validated=False)
