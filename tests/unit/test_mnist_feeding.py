"""Batches that are sliced out of tensors: each image once an epoch, in the order asked for."""

from itertools import chain

import torch

from experiments.mnist.feeding import Resident

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
