"""Hooks on copies between devices."""

import functools
from _thread import get_ident
from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..schema.stage import STAGES, Stage
from .hooks import Function, Hooks, hide_from_compilers
from .loop_clock import LoopClock
from .marks import named_frame
from .partition import LEAVE

_TRANSFER = STAGES.index(Stage.TRANSFER)
_COPYING = ("to", "cuda", "cpu", "xpu", "pin_memory")


def hook_copies(hooks: Hooks) -> None:
    """Methods of tensors that may copy them to other memory."""
    for name in _COPYING:
        hooks.replace(torch.Tensor, name, lambda f: _copy(hooks.clock, f))


def _copy(clock: LoopClock, function: Function) -> Function:
    frame = named_frame(Stage.TRANSFER)
    pins = function.__name__ == "pin_memory"
    push, now, listener = clock.push, clock.now, clock.listener

    @functools.wraps(function)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        marks = not clock.busy and clock.step_is_open and get_ident() == clock.thread
        subclassed = has_torch_function_unary(tensor)
        if not marks:
            if subclassed:
                return handle_torch_function(call, (tensor,), tensor, *args, **kwargs)
            return function(tensor, *args, **kwargs)
        if listener is not None:
            listener.stage_begins(_TRANSFER)
        clock.busy = True
        began = now()
        try:
            if subclassed:
                # It knows the method by the name under which it is called: this one.
                copy = frame(handle_torch_function, call, (tensor,), tensor, *args, **kwargs)
            else:
                copy = frame(function, tensor, *args, **kwargs)
        finally:
            clock.busy = clock.stopped
            if listener is not None:
                listener.stage_ends()
        # Most are no copy at all, or one within the same memory.
        if getattr(copy, "device", None) != tensor.device or (pins and copy is not tensor):
            push((_TRANSFER, began, LEAVE, now()))
        return copy

    # Where it can be found by who pickles it: methods in C tell no module.
    call.__module__, call.__qualname__ = "torch", f"Tensor.{function.__name__}"
    hide_from_compilers(call, function)
    return call
