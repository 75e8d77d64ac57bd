"""Notes when torch.compile is at work: such a step is warm-up."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .loop_clock import LoopClock

COMPILER = "torch._dynamo.callback"
"""The module that tells; imported with the compiler, on first use."""


def watch_compilation(clock: LoopClock, module: Any) -> Callable[[], None]:
    """Have the compiler tell the clock when it begins and ends.

    Args:
        clock: told.
        module: the imported `COMPILER`.

    Returns:
        Has it tell no more.
    """
    handler = module.callback_handler

    # Some versions of torch say why they compile, others say nothing.
    def begin(*_: object) -> None:
        clock.compilation_begins()

    def end(*_: object) -> None:
        clock.compilation_ends()

    def forget() -> None:
        with suppress(Exception):  # somebody made it forget all callbacks
            handler.remove_start_callback(begin)
            handler.remove_end_callback(end)

    handler.register_start_callback(begin)
    handler.register_end_callback(end)
    return forget
