"""Programs like people's, with marks of their own: `python -m experiments.truth.realistic`.

Pictures from an ImageFolder with augmentation, texts of many lengths with a padding collate, files
on a slow disk, and a GPT block. Their data is drawn with fixed seeds.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.sampler import RandomSampler

from .ledger import Ledger

Built = tuple[DataLoader[Any], nn.Module, Callable[[Any], Tensor]]

ENDLESS = 1_000_000
PICTURES, CLASSES = 96, 4
VOCABULARY, PADDING = 2_000, 0
FILES, FILE_BYTES, BYTES_PER_S = 32, 24_576, 30e6


def pictures(workers: int, scratch: Path) -> Built:
    """Generated JPEGs, decoded and augmented as for ImageNet, for a small convolutional net."""
    from PIL import Image

    from profkit.workloads.torchvision_repair import import_torchvision

    import_torchvision()
    from torchvision import datasets, transforms

    draw = np.random.default_rng(0)
    for row in range(PICTURES):
        folder = scratch / "pictures" / f"class-{row % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = draw.integers(256, size=(12, 12, 3), dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((192, 192), Image.Resampling.BICUBIC)
        picture.save(folder / f"{row}.jpg", quality=90)
    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(96, antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    data = datasets.ImageFolder(str(scratch / "pictures"), change)
    loader: DataLoader[Any] = DataLoader(
        data, 8, sampler=RandomSampler(data, True, ENDLESS), num_workers=workers
    )
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, CLASSES),
    )

    def loss_of(batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    return loader, model, loss_of


class Texts(Dataset[tuple[Tensor, int]]):
    """Made-up sentences, split and looked up when they are asked for."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        words = [f"word{number}" for number in range(1, VOCABULARY)]
        self._ids = {word: number for number, word in enumerate(words, 1)}
        lengths = draw.geometric(1 / 30, size=512) + 4
        self._lines = [" ".join(draw.choice(words, min(int(n), 150))) for n in lengths]

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        words = self._lines[index % len(self._lines)].lower().split()
        return torch.tensor([self._ids[word] for word in words]), index % CLASSES


def pad(samples: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
    texts, labels = zip(*samples, strict=True)
    padded = nn.utils.rnn.pad_sequence(list(texts), batch_first=True, padding_value=PADDING)
    return padded, torch.tensor(labels)


class TextModel(nn.Module):
    """Embedding, a GRU, and a class."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 32, padding_idx=PADDING)
        self.recurrent = nn.GRU(32, 32, batch_first=True)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, texts: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(texts))
        return self.out(states[:, -1])  # type: ignore[no-any-return]


def texts(workers: int, scratch: Path) -> Built:
    """Tokens of many lengths, padded batch by batch."""
    del scratch
    model = TextModel()

    def loss_of(batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    loader: DataLoader[Any] = DataLoader(Texts(), 16, collate_fn=pad, num_workers=workers)
    return loader, model, loss_of


class SlowFile:
    """A file on a disk that gives so many bytes a second."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def read(self) -> bytes:
        content = self._file.read()
        time.sleep(len(content) / BYTES_PER_S)
        self._file.close()
        return content


class SlowFiles(Dataset[tuple[Tensor, int]]):
    """Arrays in files on a slow disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        draw = np.random.default_rng(0)
        self._paths = [folder / f"{number}.bin" for number in range(FILES)]
        for path in self._paths:
            path.write_bytes(draw.bytes(FILE_BYTES))

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        content = SlowFile(self._paths[index % FILES]).read()
        values = np.frombuffer(content, np.uint8).astype(np.float32) / 255
        return torch.from_numpy(values), index % CLASSES


def slow_disk(workers: int, scratch: Path) -> Built:
    """Throttled reads, and a small network."""
    model = nn.Sequential(nn.Linear(FILE_BYTES, 32), nn.ReLU(), nn.Linear(32, CLASSES))

    def loss_of(batch: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    data = SlowFiles(scratch / "files")
    loader: DataLoader[Any] = DataLoader(data, 8, num_workers=workers)
    return loader, model, loss_of


class Block(nn.Module):
    """Embedding, one causal transformer block, and the next token."""

    def __init__(self, width: int = 128, heads: int = 4, length: int = 64) -> None:
        super().__init__()
        self._heads = heads
        self.tokens = nn.Embedding(256, width)
        self.places = nn.Parameter(torch.zeros(length, width))
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.out = nn.Linear(width, 256)

    def forward(self, tokens: Tensor) -> Tensor:
        batch, length = tokens.shape
        x = self.tokens(tokens) + self.places
        parts = self.mix(self.before(x)).view(batch, length, 3, self._heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.join(mixed.transpose(1, 2).reshape(batch, length, -1))
        x = x + self.think(self.between(x))
        return self.out(x)  # type: ignore[no-any-return]


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """Stretches of one long row of tokens, and the same one token later."""

    def __init__(self, length: int = 64) -> None:
        self._length = length
        self._tokens = torch.randint(256, (65_536,), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        at = index * 37 % (len(self._tokens) - self._length - 1)
        stretch = self._tokens[at : at + self._length + 1]
        return stretch[:-1], stretch[1:]


def gpt(workers: int, scratch: Path) -> Built:
    """A causal block that learns the next token."""
    del scratch
    model = Block()

    def loss_of(batch: Any) -> Tensor:
        logits = model(batch[0])
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten())

    loader: DataLoader[Any] = DataLoader(Windows(), 8, num_workers=workers)
    return loader, model, loss_of


PROGRAMS = {"images": pictures, "text": texts, "slow disk": slow_disk, "gpt": gpt}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="JSON to write")
    parser.add_argument("--program", choices=PROGRAMS, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    loader, model, loss_of = PROGRAMS[given.program](given.workers, given.truth.parent)
    optimizer = torch.optim.AdamW(model.parameters())
    ledger = Ledger()
    ledger.train(loader, given.seconds, loss_of=loss_of, optimizer=optimizer)
    ledger.write(given.truth)


if __name__ == "__main__":
    main()
