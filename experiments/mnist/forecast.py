"""What profkit's what-if says of the next rung, from a recording of the one before it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import profkit
from profkit import Change, Question

from .networks import SIDE, DigitNet
from .recipe import Network, Recipe, Source, difference

NOT_OF_THE_STEP = (
    *("stop.", "clock.", "schedule.gamma", "schedule.rising"),
    *("optimizer.lr", "optimizer.betas", "data.test_batch_size", "data.drop_last"),
)
"""Paths of a recipe that change how many steps there are, or numbers that a step computes with;
all others change what it does."""
TRIED = {
    "compute.precision": "bf16 autocast",
    "compute.channels_last": "channels_last",
    "optimizer.is_fused": "fused or foreach optimizer",
}
"""Paths of fixes that what-if knows, and says to try."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How many times faster an epoch is to become.

    Attributes:
        speedup, low, high: with its 95 % interval; None where no recording tells.
        bound: the most that it can become, where that alone is known.
        basis: what was asked, or why nothing could be.
    """

    speedup: float | None
    low: float | None
    high: float | None
    bound: float | None
    basis: str


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations for one image.

    Attributes:
        forward, backward: two for each multiply-add.
    """

    forward: int
    backward: int


def work_of(network: Network, side: int = SIDE) -> Work:
    """What matrix products and convolutions of a network take; the rest is not counted."""
    with torch.random.fork_rng():
        model = DigitNet(network, side)
    if network.is_whitened:
        model.whiten(torch.rand(2, 1, side, side))
    images, labels = torch.zeros(1, 1, side, side), torch.zeros(1, dtype=torch.int64)
    with FlopCounterMode(display=False) as forward:
        loss = F.cross_entropy(model.eval()(images), labels)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return Work(forward.get_total_flops(), backward.get_total_flops())


def questions(before: Recipe, after: Recipe) -> tuple[tuple[Question, ...], str]:
    """What to ask of a recording of the one recipe about the other, and in which words.

    Returns:
        Questions whose savings add up; none where the step stays as it is (the words are empty
        then), or where no question means the change (the words say so).
    """
    paths = [path for path in difference(before, after) if not path.startswith(NOT_OF_THE_STEP)]
    if not paths:
        return (), ""
    if paths == ["data.batch_size"]:
        times = after.data.batch_size / before.data.batch_size
        return (Question(Change.BATCH, amount=times),), f"batches {times:g} times as large"
    if paths == ["data.workers"] and after.data.workers is not None:
        count = after.data.workers
        return (Question(Change.WORKERS, amount=count),), f"{count} workers"
    if paths == ["data.source"] and after.data.source is Source.RESIDENT:
        return (Question(Change.MEMORY),), "the data in memory"
    if len(paths) == 1 and paths[0] in TRIED:
        return (Question(Change.TRY, TRIED[paths[0]]),), TRIED[paths[0]]
    if all(path.startswith("network.") or path == "data.side" for path in paths):
        old = work_of(before.network, before.data.side)
        new = work_of(after.network, after.data.side)
        shares = {"forward": new.forward / old.forward, "backward": new.backward / old.backward}
        words = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items())
        if max(shares.values()) >= 1:
            return (), f"operations by stage become {words}: nothing asks what more work takes"
        asked = [Question(Change.PART, name, 1 - share) for name, share in shares.items()]
        return tuple(asked), f"as much less as there are operations: {words} are left"
    return (), f"nothing asks that: {', '.join(paths)}" + (" at once" if len(paths) > 1 else "")


def forecast(run: Path, before: Recipe, after: Recipe) -> Forecast:
    """How an epoch's training changes from one recipe to the other.

    Args:
        run: run directory in which the first was recorded.
        before: what was recorded.
        after: what it becomes.
    """
    asked, words = questions(before, after)
    if not asked:
        return Forecast(None, None, None, None, words or "nothing: a step does the same")
    answers = profkit.what_if(run, list(asked)).answers
    refused = [answer for answer in answers if answer.speedup is None]
    if refused:
        bound = refused[0].bound if len(answers) == 1 else None
        return Forecast(None, None, None, bound, f"{words}: {refused[0].reason}")
    found = [one for one in (answer.speedup for answer in answers) if one is not None]
    return Forecast(
        together([one.value for one in found]),
        together([one.low for one in found]),
        together([one.high for one in found]),
        None,
        words,
    )


def together(speedups: Sequence[float | None]) -> float | None:
    """Savings of one step that add up, as the speedup by all of them; None where one is."""
    known = [one for one in speedups if one is not None]
    if len(known) < len(speedups):
        return None
    left = 1 - math.fsum(1 - 1 / one for one in known)
    return 1 / left if left > 0 else math.inf
