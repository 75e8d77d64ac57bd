"""A training loop on MNIST whose steps can be made longer by a known factor.

What a step took so far, from the request for its batch on, is spun for once more, times a part.
To spin makes the rest of the next step 1 to 2 % slower by itself (its caches are cold), so the
faster version spins too: for a tenth; and the true ratio is not quite that of the factors:
`true_ratio` measures it.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from profkit.workloads.mnist import open_dataset
from profkit.workloads.mnist_files import locate
from profkit.workloads.models import WORKLOADS
from profkit.workloads.sources import MemorySource, dataloader_source

STRETCH = 1.1
"""By how much all steps are longer than their work."""


BLOCK_STEPS = 40


def main() -> None:
    given = _parsed()
    if given.pairs:
        print(json.dumps(true_ratio(given, given.pairs)))
        return
    factors = (given.slower, *(1.0,) * (given.rare - 1))
    for _ in _steps(given, lambda number: factors[number % given.rare]):
        pass


def true_ratio(given: argparse.Namespace, pairs: int) -> list[float]:
    """By how much the steps of the slower version really are longer, without profkit.

    Both versions in one process, in pairs of blocks of random order; each pair's ratio.

    Args:
        given: the program's arguments.
        pairs: how many; one more is done before.
    """
    torch.set_num_threads(1)  # as the gate runs it
    order, factors = random.Random(0), [1.0, given.slower]
    plan: list[float] = []
    for _ in range(pairs + 1):
        order.shuffle(factors)
        plan += factors
    steps = _steps(given, lambda number: plan[number // BLOCK_STEPS])
    taken = np.array(list(islice(steps, len(plan) * BLOCK_STEPS))).reshape(-1, BLOCK_STEPS)
    # The step after a change of factor has the caches of the one before.
    mean_s = taken[:, 1:].mean(axis=1)
    is_slower = np.array(plan) != 1
    return list(mean_s[is_slower][1:] / mean_s[~is_slower][1:])


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", choices=WORKLOADS, default="fastmlp")
    parser.add_argument("--source", choices=["dataloader", "memory"], default="memory")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1.0, help="factor of the steps")
    parser.add_argument("--rare", type=int, default=1, help="only each so manieth step is slower")
    parser.add_argument("--pairs", type=int, default=0, help="print so many true ratios instead")
    return parser.parse_args()


def _steps(given: argparse.Namespace, factor: Callable[[int], float]) -> Iterator[float]:
    """Train for ever; what each step took, in s.

    Args:
        given: the program's arguments.
        factor: by which the step of this number is longer.
    """
    dataset = open_dataset(locate(None, allow_download=False), train=True)
    source: Iterable[Any]
    if given.source == "memory":
        source = MemorySource(dataset, given.batch_size, seed=0)
    else:
        source = dataloader_source(dataset, given.batch_size, given.workers, seed=0)
    workload = WORKLOADS[given.workload]
    model = workload.model()
    optimizer = workload.optimizer(model.parameters())
    for number, (began, (images, labels)) in enumerate(_timed(source)):
        workload.loss(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        now = time.perf_counter()
        end = now + (now - began) * (STRETCH * factor(number) - 1)
        while time.perf_counter() < end:
            pass
        yield time.perf_counter() - began


def _timed(source: Iterable[Any]) -> Iterator[tuple[float, Any]]:
    """The batches of epoch after epoch, each with the moment at which it was asked for."""
    while True:
        batches = iter(source)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            yield began, batch


if __name__ == "__main__":
    main()
