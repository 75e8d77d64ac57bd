"""Hooks on copies between devices."""

import functools
from _thread import get_ident
from typing import Any

import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..schema.stage import STAGES, Stage
from .hooks import Hooks, hide_from_compilers
from .loop_clock import LoopClock
from .marks import named_frame
from .partition import LEAVE
from .replacements import Function, subclasses

_TRANSFER = STAGES.index(Stage.TRANSFER)
_COPYING = ("to", "cuda", "cpu", "xpu", "pin_memory")


def hook_copies(hooks: Hooks) -> None:
    """Methods of tensors that may copy them to other memory."""
    early = frozenset(subclasses(torch.Tensor))
    for name in _COPYING:
        hooks.tensor_methods.add(getattr(torch.Tensor, name))
        hooks.replace(torch.Tensor, name, lambda f: _copy(hooks.clock, f, early))


def _copy(clock: LoopClock, function: Function, early: frozenset[type]) -> Function:
    """The wrapper of a method.

    Args:
        clock: told of what is a copy.
        function: the method.
        early: subclasses of tensors that may know it from before it had a wrapper.
    """
    frame = named_frame(Stage.TRANSFER)
    pins = function.__name__ == "pin_memory"
    push, now, listener = clock.push, clock.now, clock.listener

    @functools.wraps(function)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        marks = not clock.busy and clock.step_is_open and get_ident() == clock.thread
        subclassed = has_torch_function_unary(tensor)
        if subclassed:
            # It knows the method by what its name stood for when the subclass was made.
            known = function if type(tensor) in early else call
        if not marks:
            if subclassed:
                return handle_torch_function(known, (tensor,), tensor, *args, **kwargs)
            return function(tensor, *args, **kwargs)
        if listener is not None:
            listener.stage_begins(_TRANSFER)
        began = now()
        try:
            clock.busy = True
            if subclassed:
                copy = frame(handle_torch_function, known, (tensor,), tensor, *args, **kwargs)
            else:
                copy = frame(function, tensor, *args, **kwargs)
        finally:
            clock.busy = clock.stopped
            if listener is not None:
                listener.stage_ends()
        if subclassed:
            # Without asking it, which it would notice.
            with torch._C.DisableTorchFunction():
                moved = _device(copy) != _device(tensor)
        else:
            moved = getattr(copy, "device", None) != tensor.device
        # Most are no copy at all, or one within the same memory.
        if moved or (pins and copy is not tensor):
            push((_TRANSFER, began, LEAVE, now()))
        return copy

    # Pickled by the name under which the method of every tensor is found.
    call.__module__, call.__qualname__ = "torch", f"Tensor.{function.__name__}"
    hide_from_compilers(call, function)
    return call


def _device(value: object) -> object:
    return torch.Tensor.device.__get__(value) if isinstance(value, torch.Tensor) else None
