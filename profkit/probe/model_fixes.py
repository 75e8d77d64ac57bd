"""Fixes of the model: how its modules compute, not what."""

import weakref
from typing import Any

import torch
from torch import nn

from ..interruption import pass_on
from ..schema.fix import Knob
from .fix_outcomes import FixOutcomes
from .replacements import Function, Replacements

_ROWS = 4
"""Dimensions of what a memory layout is for: samples, channels, height, width."""


class ModelFixes:
    """Fixes that have to do with the outermost module of a training step.

    Args:
        settings: see `FixOrder`.
        outcomes: told what came of them.
    """

    def __init__(self, settings: dict[str, Any], outcomes: FixOutcomes) -> None:
        self._channels_last = Knob.LAYOUT.value in settings
        self._precision = settings.get(Knob.PRECISION.value)
        self._compiles = Knob.COMPILER.value in settings
        self._outcomes = outcomes
        self._inside = False
        self._met: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    def install(self, hooks: Replacements) -> None:
        """Put them in place."""
        if self._channels_last or self._compiles or self._precision is not None:
            hooks.replace(nn.Module, "__call__", self._call)

    def _call(self, original: Function) -> Function:
        """`Module.__call__`, for outermost modules that train."""

        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self._inside or not getattr(module, "training", False):
                return original(module, *args, **kwargs)
            self._inside = True
            try:
                if module not in self._met:
                    self._met.add(module)
                    self._prepare(module)
                if self._channels_last:
                    args = tuple(_to_channels_last(one) for one in args)
                if self._precision is None or not self._can_cast(module):
                    return original(module, *args, **kwargs)
                with torch.autocast(_device_of(module), torch.bfloat16):
                    found = original(module, *args, **kwargs)
                return _to_float(found)
            finally:
                self._inside = False

        return call

    def _can_cast(self, module: nn.Module) -> bool:
        if not _has_parameters(module):  # a loss
            return False
        if torch.is_autocast_enabled(_device_of(module)):
            self._outcomes.pass_over(Knob.PRECISION, "autocast is on already")
            return False
        if all(one.dtype is torch.bfloat16 for one in module.parameters()):
            self._outcomes.pass_over(Knob.PRECISION, "the model is in bf16 already")
            return False
        self._outcomes.apply(Knob.PRECISION)
        return True

    def _prepare(self, module: nn.Module) -> None:
        if not _has_parameters(module):
            return
        if self._channels_last:
            self._lay_out(module)
        if self._compiles:
            self._compile(module)

    def _lay_out(self, module: nn.Module) -> None:
        kernels = [one for one in module.parameters() if one.ndim == _ROWS]
        if not kernels:
            self._outcomes.pass_over(Knob.LAYOUT, "the model has no convolutions")
            return
        # Kernels of one pixel are so either way.
        told = [one for one in kernels if not one.is_contiguous()]
        if told and all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels):
            self._outcomes.pass_over(Knob.LAYOUT, "the model is channels_last already")
            return
        try:
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._outcomes.apply(Knob.LAYOUT)
        except Exception as error:
            pass_on(error)
            self._channels_last = False
            self._outcomes.fail(Knob.LAYOUT, f"{type(error).__name__}: {error}")

    def _compile(self, module: nn.Module) -> None:
        # The second is what `torch.compile(model)` gives.
        if module._compiled_call_impl is not None or hasattr(module, "_orig_mod"):
            self._outcomes.pass_over(Knob.COMPILER, "the model is compiled already")
            return
        try:
            module.compile()
            self._outcomes.apply(Knob.COMPILER)
        except Exception as error:
            pass_on(error)
            self._outcomes.fail(Knob.COMPILER, f"{type(error).__name__}: {error}")


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _device_of(module: nn.Module) -> str:
    return next(module.parameters()).device.type


def _to_channels_last(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim == _ROWS:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _to_float(value: Any) -> Any:
    """What a model gave under autocast, in float32 again."""
    from torch.utils import _pytree as pytree

    def convert(leaf: Any) -> Any:
        is_low = isinstance(leaf, torch.Tensor) and leaf.dtype is torch.bfloat16
        return leaf.float() if is_low else leaf

    return pytree.tree_map(convert, value)
