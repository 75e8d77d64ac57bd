"""A loop whose batches are made of parts that each note what they really took.

`python -m experiments.anatomy.loop --truth FILE --workers N --method fork`
"""

import argparse
import functools
import json
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

PARTS = ("fetch", "decode", "Blur", "Normalize", "jitter", "collate", "serialise")
MS = {
    "fetch": 0.3,
    "decode": 0.5,
    "Blur": 0.8,
    "Normalize": 0.2,
    "jitter": 0.4,
    "collate": 3.0,
    "serialise": 2.0,
}
"""Of each part: for a sample, and for a batch the last two."""
BATCH = 8
MOST_WORKERS = 16


def spend(truth: Tensor, part: str, milliseconds: float) -> None:
    """Compute for so long, and note how long it was."""
    began = time.perf_counter_ns()
    end = began + int(milliseconds * 1e6)
    while time.perf_counter_ns() < end:
        pass
    info = get_worker_info()
    row = truth[0 if info is None else 1 + info.id]
    row[PARTS.index(part)] += time.perf_counter_ns() - began


class Step:
    """A transform; classes below are named for what they stand for."""

    def __init__(self, truth: Tensor) -> None:
        self._truth = truth

    def __call__(self, x: Tensor) -> Tensor:
        name = type(self).__name__
        spend(self._truth, name, MS[name])
        return x


class Blur(Step):
    """The dearest one."""


class Normalize(Step):
    """The cheapest one."""


class Chain:
    """As torchvision's Compose: it only calls what it holds."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps

    def __call__(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Heavy:
    """A batch that takes long to serialise."""

    def __init__(self, x: Tensor, truth: Tensor) -> None:
        self.x, self.truth = x, truth

    def __reduce__(self) -> Any:
        spend(self.truth, "serialise", MS["serialise"])
        return Heavy, (self.x, torch.empty(0))


class Items(Dataset[Tensor]):
    """Samples, decoded by what is called as a well-known decoder is."""

    def __init__(self, truth: Tensor, count: int) -> None:
        self._truth = truth
        self._count = count
        own = functools.partial(jitter, truth)  # spawned workers can have it
        self.transform = Chain([Blur(truth), Normalize(truth), own])

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Tensor:
        spend(self._truth, "fetch", MS["fetch"])
        x: Tensor = decoder(self._truth).imread(i)
        done: Tensor = self.transform(x)
        return done


def jitter(truth: Tensor, x: Tensor) -> Tensor:
    """A user's own function."""
    spend(truth, "jitter", MS["jitter"])
    return x


def decoder(truth: Tensor) -> ModuleType:
    """A stand-in for OpenCV: known to profkit by its name."""
    made = sys.modules.get("cv2")
    if made is None:
        made = ModuleType("cv2")

        def imread(i: int) -> Tensor:
            spend(truth, "decode", MS["decode"])
            return torch.full((4,), float(i))

        made.imread = imread  # type: ignore[attr-defined]
        sys.modules["cv2"] = made
    return made


class Collate:
    """Puts samples together; what comes out is costly to serialise."""

    def __init__(self, truth: Tensor) -> None:
        self._truth = truth

    def __call__(self, samples: list[Tensor]) -> Heavy:
        spend(self._truth, "collate", MS["collate"])
        return Heavy(torch.stack(samples), self._truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--method", default="fork")
    parser.add_argument("--batches", type=int, default=120)
    given = parser.parse_args()
    torch.set_num_threads(1)
    truth = torch.zeros(1 + MOST_WORKERS, len(PARTS), dtype=torch.int64).share_memory_()
    loader = DataLoader(
        Items(truth, given.batches * BATCH),
        batch_size=BATCH,
        collate_fn=Collate(truth),
        num_workers=given.workers,
        multiprocessing_context=given.method if given.workers else None,
    )
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    for batch in loader:
        model(batch.x).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    ns = truth.sum(dim=0).tolist()
    given.truth.write_text(
        json.dumps({"parts": dict(zip(PARTS, ns, strict=True)), "batches": given.batches})
    )


if __name__ == "__main__":
    main()
