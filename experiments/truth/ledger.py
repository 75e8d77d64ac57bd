"""What a program notes about itself: the truth of its stages, by marks of its own.

Eight moments a step, taken right around the user's calls, in the process and thread that pays
them; they go to a list made beforehand and are written when the loop is over. The differences
partition the step as the loop sees it: what a profiler's hooks cost lies in the stage around
whose call they sit.

What a profiler does between two steps (writing them, starting a sampler) is no cost of the
program. It happens after the loop has asked for a batch and before torch's loader begins to fetch
it, so the second moment is taken inside the loader; the time before it is kept apart.
"""

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data.dataloader import (
    _MultiProcessingDataLoaderIter,
    _SingleProcessDataLoaderIter,
)

STAGES = ("dataloader", "transfer", "forward", "backward", "optimizer", "other")
"""In the order of the moments: stage i lies between moments i + 1 and i + 2."""
MOST_STEPS = 60_000
_MOMENTS = len(STAGES) + 2

now = time.perf_counter_ns


class Ledger:
    """The marks of a loop, and what was paid in each step at each place."""

    def __init__(self, places: Iterable[str] = ()) -> None:
        self.moments = [0] * (MOST_STEPS * _MOMENTS)
        self.paid = {place: [0] * MOST_STEPS for place in places}
        self.step = 0
        self._at = 0

    def _watch(self, made: Any) -> None:
        """Note when an iterator of torch's begins to fetch."""
        fetch = made._next_data

        def next_data(iterator: Any) -> Any:
            self.moments[self._at + 1] = now()
            return fetch(iterator)

        made._next_data = next_data

    def train(
        self,
        loader: Iterable[Any],
        seconds: float,
        *,
        loss_of: Callable[[Any], Tensor],
        optimizer: Optimizer,
        transfer: Callable[[], object] | None = None,
        log: Callable[[int, Any], None] | None = None,
    ) -> None:
        """Train for so many seconds, over as many epochs as that takes."""
        self._watch(_SingleProcessDataLoaderIter)
        self._watch(_MultiProcessingDataLoaderIter)
        moments = self.moments
        at, over = 0, now() + int(seconds * 1e9)
        while True:
            batches = iter(loader)
            while True:
                moments[at] = now()
                try:
                    batch = next(batches)
                except StopIteration:
                    break
                moments[at + 2] = now()
                if transfer is not None:
                    transfer()
                moments[at + 3] = now()
                loss = loss_of(batch)
                moments[at + 4] = now()
                loss.backward()
                moments[at + 5] = now()
                optimizer.step()
                optimizer.zero_grad()
                moments[at + 6] = now()
                if log is not None:
                    log(self.step, batch)
                # Else they would go when the next ones take their names, at the end of the next
                # wait and the next forward: a graph of a thousand nodes takes a millisecond.
                del batch, loss
                self.step += 1
                at += _MOMENTS
                self._at = at
                if self.step == MOST_STEPS or moments[at - 2] > over:
                    moments[at - 1] = now()
                    return
                moments[at - 1] = now()

    def write(self, path: Path) -> None:
        """As JSON: `moments` (a list of eight a step), `paid` (ns a step by place)."""
        rows = [self.moments[i : i + _MOMENTS] for i in range(0, self.step * _MOMENTS, _MOMENTS)]
        paid = {place: values[: self.step] for place, values in self.paid.items()}
        path.write_text(json.dumps({"moments": rows, "paid": paid}))
