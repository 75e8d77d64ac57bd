"""Notes when torch.compile is at work: such a step is warm-up."""

from typing import Any

from .loop_clock import LoopClock

COMPILER = "torch._dynamo.callback"
"""The module that tells; imported with the compiler, on first use."""


def watch_compilation(clock: LoopClock, module: Any) -> None:
    """Have the compiler tell the clock when it begins and ends.

    Args:
        clock: told.
        module: the imported `COMPILER`.
    """
    handler = module.callback_handler
    # Some versions of torch say why they compile, others say nothing.
    handler.register_start_callback(lambda *_: clock.compilation_begins())
    handler.register_end_callback(lambda *_: clock.compilation_ends())
