"""Networks by their description."""

import torch.nn.functional as F
from torch import Tensor, nn

from .recipe import Network

SIDE, CLASSES = 28, 10


class DigitNet(nn.Module):
    """Scores, (n, 10), of images (n, 1, side, side).

    Args:
        network: what it consists of.
        side: of an image, in pixels.

    Raises:
        ValueError: its convolutions and poolings leave nothing of an image.
    """

    def __init__(self, network: Network, side: int = SIDE) -> None:
        super().__init__()
        self._pool_first = network.pool_first
        self._pools = network.pools
        whole, channels = side, 1
        convolutions, map_norms = [], []
        for width, kernel, pool in zip(network.widths, network.kernels, network.pools, strict=True):
            convolutions.append(nn.Conv2d(channels, width, kernel, bias=not network.batch_norm))
            map_norms.append(nn.BatchNorm2d(width) if network.batch_norm else nn.Identity())
            side, channels = side - kernel + 1, width
            side = side // 2 if pool else side
        if side < 1:
            raise ValueError(f"{network} leaves nothing of an image of {whole} by {whole}")
        self.convolutions = nn.ModuleList(convolutions)
        self.map_norms = nn.ModuleList(map_norms)
        self.map_dropout = nn.Dropout2d(network.map_dropout)
        inputs = channels * side * side
        dense, norms = [], []
        for width in network.hidden:
            dense.append(nn.Linear(inputs, width, bias=not network.batch_norm))
            norms.append(nn.BatchNorm1d(width) if network.batch_norm else nn.Identity())
            inputs = width
        self.dense = nn.ModuleList(dense)
        self.norms = nn.ModuleList(norms)
        # On a flat vector the example's Dropout2d zeroes numbers one by one, as this does.
        self.dropout = nn.Dropout(network.dropout)
        self.scores = nn.Linear(inputs, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for convolution, norm, pool in zip(
            self.convolutions, self.map_norms, self._pools, strict=True
        ):
            hidden = norm(convolution(hidden))
            if pool and self._pool_first:
                hidden = F.relu(F.max_pool2d(hidden, 2))
            elif pool:
                hidden = F.max_pool2d(F.relu(hidden), 2)
            else:
                hidden = F.relu(hidden)
        if self.convolutions:
            hidden = self.map_dropout(hidden)
        hidden = hidden.flatten(1)
        for layer, norm in zip(self.dense, self.norms, strict=True):
            hidden = F.relu(norm(layer(hidden)))
        scores: Tensor = self.scores(self.dropout(hidden))
        return scores
