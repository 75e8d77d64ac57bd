"""The costliest line of a stage: a short pass of its own over a loop, with stack samples."""

import linecache
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .analyze.costly_line import costliest_frame
from .analyze.places import short_place
from .analyze.stacks import plain_name
from .errors import ProfkitError
from .interruption import pass_on
from .loops import Loop, bench
from .probe.loop_samples import LoopSamples
from .schema.ledger import CostlyLine
from .schema.stage import Stage

PASS_S = 1.0
"""How long the loop is looked at; a step that takes longer ends first."""
_MANY = 10**9
_SWITCH_S = 0.000_02


def costliest_line(loop: Loop, stage: Stage, limit_s: float = PASS_S) -> CostlyLine | str:
    """Where a stage spends its time; or, where that cannot be told, why in brief.

    Runs the loop once more. What its loader workers do, this process does in their place.
    """
    try:
        counts = _sample(loop, stage, limit_s)
    except ProfkitError as error:
        return str(error)
    except Exception as error:  # a failure that is to be explained must not be hidden
        pass_on(error)
        return f"looking for it ended with {type(error).__name__}: {error}"
    found = costliest_frame(counts, stage)
    if found is None:
        return "the loader has no further batch" if loop.spent else "no stack sample fell into it"
    frame, caller, count, total = found
    return CostlyLine(
        source=short_place(frame.file, frame.line),
        function=plain_name(frame),
        text=linecache.getline(frame.file, frame.line).strip(),
        caller=None if caller is None else short_place(caller.file, caller.line),
        samples=total,
        share=count / total,
    )


def _sample(loop: Loop, stage: Stage, limit_s: float) -> Any:
    with bench(loop) as place, _switching_often():
        samples = LoopSamples(place.clock, limit_s)
        try:
            if stage is Stage.DATALOADER and loop.workers:
                fetch_in_process(loop.loader, limit_s)
            else:
                loop.run(place, _MANY, place.deadline_ns(limit_s))
        finally:
            samples.stop()
    return samples.counts


@contextmanager
def _switching_often() -> Iterator[None]:
    """Let the sampling thread in soon.

    It would wait up to 5 ms for its turn, and see what gives the interpreter away of itself, such
    as torch's operators, far too often.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def fetch_in_process(loader: Any, limit_s: float) -> None:
    """Make batches as the workers of a DataLoader over an indexed dataset do."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        for indices in loader.batch_sampler:
            loader.collate_fn([loader.dataset[index] for index in indices])
            if time.monotonic() > deadline:
                break
