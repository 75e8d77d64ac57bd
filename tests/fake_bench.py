"""Loops on a fake time: what a step takes is said, and drawn from a stream of its own."""

from collections.abc import Iterator
from typing import Any

import numpy as np

MS = 1_000_000


class FakeLoop:
    """A loader and a step that take a drawn time each.

    Args:
        time: moved on.
        wait_ms, work_ms: means.
        noise: standard deviation of their logarithms.
        batches: in an epoch.
        slow: every so many steps one takes ten times as long; 0 for none.
        burst: so many batches are there at once, as loader workers make them, after the wait for
            all of them.
    """

    def __init__(
        self,
        time: Any,
        *,
        wait_ms: float = 1.0,
        work_ms: float = 1.0,
        noise: float = 0.05,
        batches: int = 64,
        slow: int = 0,
        burst: int = 1,
        seed: int = 0,
    ) -> None:
        self._time = time
        self._means = (wait_ms, work_ms)
        self._noise = noise
        self._batches = batches
        self._slow = slow
        self._burst = burst
        self._draw = np.random.default_rng(seed)
        self.steps = 0

    def _pass(self, mean_ms: float) -> None:
        spread = np.exp(self._draw.normal(0, self._noise) - self._noise**2 / 2)
        self._time.pass_ns(round(mean_ms * MS * spread))

    def __iter__(self) -> Iterator[int]:
        for batch in range(self._batches):
            if batch % self._burst == 0:
                self._pass(self._means[0] * self._burst)
            yield batch

    def __call__(self, batch: int) -> None:
        self.steps += 1
        is_slow = self._slow and self.steps % self._slow == 0
        self._pass(self._means[1] * (10 if is_slow else 1))
