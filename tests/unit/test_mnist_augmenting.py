"""Images changed at random: by how much, and nothing where nothing is asked for."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.mnist.augmenting import BLACK, augmented, sample_transform
from experiments.mnist.recipe import Augment, Data
from profkit.workloads.mnist import MEAN, STD

SIDE = 28


def dot(row: int, column: int) -> torch.Tensor:
    """An image, (1, 1, 28, 28), black but for a patch of 2 by 2."""
    image = torch.full((1, 1, SIDE, SIDE), BLACK)
    image[0, 0, row : row + 2, column : column + 2] = 1.0
    return image


def centre(images: torch.Tensor) -> torch.Tensor:
    """Rows and columns, (n, 2), of what is written, in pixels from the middle."""
    weight = (images - BLACK)[:, 0]
    place = torch.arange(SIDE) - (SIDE - 1) / 2
    whole = weight.sum((1, 2))
    rows, columns = weight.sum(2) @ place, weight.sum(1) @ place
    return torch.stack([rows / whole, columns / whole], 1)


def test_nothing_asked_for_changes_nothing_and_draws_nothing() -> None:
    images = dot(3, 4)
    before = torch.get_rng_state()
    assert augmented(images, Augment()) is images
    assert torch.equal(torch.get_rng_state(), before)


def test_shifts_reach_as_far_as_asked_and_differ_by_image() -> None:
    torch.manual_seed(0)
    images = dot(13, 13).expand(500, -1, -1, -1)
    moved = centre(augmented(images, Augment(shift=0.1)))
    assert moved.abs().max() <= 2.8 + 0.01
    assert moved.abs().max(0).values.min() > 2.6
    assert moved.mean(0).abs().max() < 0.2


def test_turns_keep_the_distance_from_the_middle() -> None:
    torch.manual_seed(0)
    images = dot(4, 13).expand(500, -1, -1, -1)
    turned = centre(augmented(images, Augment(rotation=10.0)))
    distance = turned.norm(dim=1)
    assert torch.allclose(distance, torch.tensor(9.0), atol=0.15)
    angle = torch.atan2(turned[:, 1], -turned[:, 0]).rad2deg()
    assert 9.5 < angle.abs().max() < 10.5


def test_scales_grow_and_shrink_by_as_much_as_asked() -> None:
    torch.manual_seed(0)
    images = dot(4, 13).expand(500, -1, -1, -1)
    distance = centre(augmented(images, Augment(scale=0.1))).norm(dim=1) / 9.0
    assert 0.89 < distance.min() < 0.92
    assert 1.08 < distance.max() < 1.11


def test_noise_is_as_strong_as_asked() -> None:
    torch.manual_seed(0)
    images = torch.zeros(50, 1, SIDE, SIDE)
    assert augmented(images, Augment(noise=0.1)).std() == pytest.approx(0.1, rel=0.02)


def test_samples_are_changed_only_where_they_are_trained_on() -> None:
    image = Image.fromarray(np.full((SIDE, SIDE), 128, np.uint8))
    data = Data(augment=Augment(rotation=10.0, shift=0.1))
    tested = sample_transform(data, is_trained_on=False)(image)
    assert torch.allclose(tested, torch.full((1, SIDE, SIDE), (128 / 255 - MEAN) / STD))
    torch.manual_seed(0)
    trained = sample_transform(data, is_trained_on=True)
    # A dot beside the middle lies elsewhere each time, by no more than its shift and turn.
    marked = np.zeros((SIDE, SIDE), np.uint8)
    marked[13:15, 13:15] = 255
    found = torch.stack([trained(Image.fromarray(marked)) for _ in range(200)])
    moved = centre(found).abs().max(0).values
    assert all(2.0 < float(one) <= 3.5 for one in moved)
    plain = sample_transform(Data(is_normalized=False), is_trained_on=True)(image)
    assert torch.allclose(plain, torch.full((1, SIDE, SIDE), 128 / 255))
