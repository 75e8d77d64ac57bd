"""Images changed at random: one by one on their way to a batch, or a batch at once."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from profkit.workloads.mnist import MEAN, STD

from .recipe import Augment, Data

BLACK = -MEAN / STD
"""A normalised pixel that nothing is written on."""


class Noise:
    """Adds to each pixel of a tensor a number of its own, normally distributed.

    Args:
        deviation: of these.
    """

    def __init__(self, deviation: float) -> None:
        self._deviation = deviation

    def __call__(self, image: Tensor) -> Tensor:
        return image + self._deviation * torch.randn_like(image)


def sample_transform(data: Data, *, is_trained_on: bool) -> Callable[[Any], Tensor]:
    """PIL image -> tensor (1, 28, 28), one by one.

    Args:
        data: which changes at random, and whether pixels are normalised.
        is_trained_on: else nothing changes at random.
    """
    from torchvision import transforms  # after the repair that profkit.workloads.mnist made

    augment = data.augment if is_trained_on else Augment()
    steps: list[Callable[[Any], Any]] = []
    if augment.rotation or augment.shift or augment.scale:
        steps.append(
            transforms.RandomAffine(
                augment.rotation,
                translate=(augment.shift, augment.shift),
                scale=(1 - augment.scale, 1 + augment.scale),
                interpolation=transforms.InterpolationMode.BILINEAR,
            )
        )
    steps.append(transforms.ToTensor())
    if data.is_normalized:
        steps.append(transforms.Normalize((MEAN,), (STD,)))
    if augment.noise:
        steps.append(Noise(augment.noise))
    whole: Callable[[Any], Tensor] = transforms.Compose(steps)
    return whole


def augmented(images: Tensor, augment: Augment) -> Tensor:
    """Normalised images (n, 1, side, side), each changed at random; those themselves for none.

    What comes in from outside an image is black. By the global random stream.
    """
    if augment.rotation or augment.shift or augment.scale:
        count, *_, side = images.shape
        drawn = 2 * torch.rand(4, count, device=images.device) - 1
        angle = drawn[0] * math.radians(augment.rotation)
        grown = 1 / (1 + augment.scale * drawn[1])
        # In affine_grid's units an image is two wide.
        right, down = 2 * augment.shift * drawn[2], 2 * augment.shift * drawn[3]
        turned, tilted = angle.cos() * grown, angle.sin() * grown
        rows = torch.stack([turned, -tilted, right, tilted, turned, down], 1)
        where = F.affine_grid(rows.view(count, 2, 3), [count, 1, side, side], align_corners=False)
        images = F.grid_sample(images - BLACK, where, align_corners=False) + BLACK
    if augment.noise:
        images = images + augment.noise * torch.randn_like(images)
    return images
