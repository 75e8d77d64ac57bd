"""A training loop on MNIST whose steps can be made longer by a known factor.

What a step took so far, from the request for its batch on, is spun for once more, times a part.
To spin makes the rest of the next step 1 to 2 % slower by itself (its caches are cold), so the
faster version spins too: for a tenth; and the true ratio is not quite that of the factors:
`live.true_ratios` measures it.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import torch

from profkit.workloads.mnist import open_dataset
from profkit.workloads.mnist_files import locate
from profkit.workloads.models import WORKLOADS
from profkit.workloads.sources import MemorySource, dataloader_source

STRETCH = 1.1
"""By how much all steps are longer than their work."""
MOST_WAITING = 2.0
"""Times its CPU time that a step may take: the rest of it the gate had the process stopped."""


def main() -> None:
    given = _parsed()
    if given.take_orders:
        take_orders(given)
        return
    factors = (given.slower, *(1.0,) * (given.rare - 1))
    for _ in _steps(given, lambda number: factors[number % given.rare]):
        pass


def take_orders(given: argparse.Namespace) -> None:
    """For each number on a line of the input: train so many steps, print their mean in s."""
    torch.set_num_threads(1)  # as the gate runs it
    steps = _steps(given, lambda number: given.slower)
    for line in sys.stdin:
        taken = list(islice(steps, int(line)))
        print(sum(taken) / len(taken), flush=True)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workload", choices=WORKLOADS, default="fastmlp")
    parser.add_argument("--source", choices=["dataloader", "memory"], default="memory")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--slower", type=float, default=1.0, help="factor of the steps")
    parser.add_argument("--rare", type=int, default=1, help="only each so manieth step is slower")
    parser.add_argument("--take-orders", action="store_true", help="train what the input says")
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
    for number, (began, computed, (images, labels)) in enumerate(_timed(source)):
        workload.loss(model(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        now = time.perf_counter()
        worked = min(now - began, MOST_WAITING * (time.thread_time() - computed))
        end = now + worked * (STRETCH * factor(number) - 1)
        while time.perf_counter() < end:
            pass
        yield time.perf_counter() - began


def _timed(source: Iterable[Any]) -> Iterator[tuple[float, float, Any]]:
    """The batches of epoch after epoch, with the moment and CPU time when each was asked for."""
    while True:
        batches = iter(source)
        while True:
            began, computed = time.perf_counter(), time.thread_time()
            batch = next(batches, None)
            if batch is None:
                break
            yield began, computed, batch


if __name__ == "__main__":
    main()
