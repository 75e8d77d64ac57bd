"""The built-in networks, and how each is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FastMLP(nn.Module):
    """784-256-128-10 with relu: a network so cheap that feeding it is what costs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Scores, (n, 10), of images (n, 1, 28, 28)."""
        hidden = F.relu(self.fc1(images.flatten(1)))
        hidden = F.relu(self.fc2(hidden))
        scores: Tensor = self.fc3(hidden)
        return scores


class SmallCnn(nn.Module):
    """Two convolutions, each with relu and pooling, and two dense layers: rung 2 of the ladder."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(1600, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Log-probabilities, (n, 10), of images (n, 1, 28, 28)."""
        hidden = F.max_pool2d(F.relu(self.conv1(images)), 2)
        hidden = F.max_pool2d(F.relu(self.conv2(hidden)), 2)
        hidden = self.dropout(F.relu(self.fc1(hidden.flatten(1))))
        return F.log_softmax(self.fc2(hidden), dim=1)


@dataclass(frozen=True, slots=True)
class Workload:
    """A network and how it is trained."""

    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    batch_size: int


def _sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def _adadelta(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(parameters, lr=1.0)


WORKLOADS = {
    "fastmlp": Workload(FastMLP, F.cross_entropy, _sgd, batch_size=512),
    "cnn": Workload(SmallCnn, F.nll_loss, _adadelta, batch_size=64),
}
