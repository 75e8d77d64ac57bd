import numpy as np
import pytest
import torch

from profkit.errors import InputError
from profkit.workloads.drawn_digits import draw
from profkit.workloads.models import FastMLP


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    images, labels = draw(300, 1)
    again, _ = draw(300, 1)
    other, _ = draw(300, 2)
    test, _ = draw(300, 1, "test")
    assert (images.dtype, images.shape, labels.shape) == (np.uint8, (300, 28, 28), (300,))
    assert (images == again).all()
    assert (images != other).any()
    assert (images != test).any()
    assert set(labels.tolist()) == set(range(10))


def test_a_shorter_set_begins_a_longer_one() -> None:
    assert (draw(50, 0)[0] == draw(1200, 0)[0][:50]).all()


def test_the_greys_are_like_mnists() -> None:
    pixels = draw(500, 0)[0] / 255
    assert 0.08 < pixels.mean() < 0.18
    assert 0.22 < pixels.std() < 0.40


def test_a_small_network_learns_them() -> None:
    (images, labels), (test_images, test_labels) = draw(6000, 0), draw(1000, 0, "test")

    def tensors(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[type-arg]
        return torch.from_numpy(x).float().div(255).unsqueeze(1), torch.from_numpy(y).long()

    x, y = tensors(images, labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FastMLP()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(4):
        for part in range(0, len(x), 100):
            rows = slice(part, part + 100)
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    tx, ty = tensors(test_images, test_labels)
    assert (model(tx).argmax(1) == ty).float().mean() > 0.9


def test_no_global_random_number_is_drawn() -> None:
    before = np.random.get_state()[1].tolist()
    draw(10, 0)
    assert np.random.get_state()[1].tolist() == before


def test_bad_counts_are_refused() -> None:
    with pytest.raises(InputError, match="-1 digits"):
        draw(-1, 0)
