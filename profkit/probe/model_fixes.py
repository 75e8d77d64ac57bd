"""Fixes of the model and of what updates it: how they compute, not what."""

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..interruption import pass_on
from ..schema.fix import Knob
from .replacements import Function, Replacements


class ModelFixes:
    """Fixes that have to do with the outermost module of a training step.

    Args:
        settings: see `FixOrder`.
        fail: told what could not be applied, and why.
    """

    def __init__(self, settings: dict[str, Any], fail: Callable[[Knob, str], None]) -> None:
        self._channels_last = Knob.LAYOUT.value in settings
        self._precision = settings.get(Knob.PRECISION.value)
        self._compiles = Knob.COMPILER.value in settings
        self._fail = fail
        self._inside = False
        self._met: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to apply."""
        return self._channels_last or self._compiles or self._precision is not None

    def call(self, original: Function) -> Function:
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
                if self._precision is None or not _has_parameters(module):
                    return original(module, *args, **kwargs)
                with torch.autocast(_device_of(module), torch.bfloat16):
                    found = original(module, *args, **kwargs)
                return _to_float(found)
            finally:
                self._inside = False

        return call

    def _prepare(self, module: nn.Module) -> None:
        if self._channels_last and not any(one.ndim == 4 for one in module.parameters()):
            if _has_parameters(module):  # a loss has none
                self._fail(Knob.LAYOUT, "the model has no convolutions")
        elif self._channels_last:
            try:
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            except Exception as error:
                pass_on(error)
                self._channels_last = False
                self._fail(Knob.LAYOUT, f"{type(error).__name__}: {error}")
        if self._compiles and _has_parameters(module):
            try:
                module.compile()
            except Exception as error:
                pass_on(error)
                self._fail(Knob.COMPILER, f"{type(error).__name__}: {error}")


def set_optimizer(hooks: Replacements, implementation: str, failures: dict[str, str]) -> None:
    """Have optimizers use `fused` or `foreach` kernels where they have them."""
    other = {"fused": "foreach", "foreach": "fused"}[implementation]
    inside: list[Any] = []  # AdamW calls Adam's

    def choose(original: Function) -> Function:
        names = inspect.signature(original).parameters

        @functools.wraps(original)
        def init(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if any(one is optimizer for one in inside):
                original(optimizer, *args, **kwargs)
                return
            if implementation not in names:
                reason = f"{type(optimizer).__name__} has no {implementation} implementation"
                failures.setdefault(Knob.OPTIMIZER.value, reason)
                original(optimizer, *args, **kwargs)
                return
            if kwargs.get(implementation):
                reason = f"the optimizer is a {implementation} one already"
                failures.setdefault(Knob.OPTIMIZER.value, reason)
            excluded = {other: None} if other in names else {}
            inside.append(optimizer)
            try:
                original(optimizer, *args, **{**kwargs, **excluded, implementation: True})
            finally:
                inside.pop()

        return init

    for kind in vars(torch.optim).values():
        is_optimizer = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
        if is_optimizer and "__init__" in kind.__dict__:
            hooks.replace(kind, "__init__", choose)


def set_to_none(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    """Have gradients set to None where they are filled with zeros."""
    # Until one is filled with zeros.
    failures[Knob.GRADIENTS.value] = "gradients are set to None already"

    def force(original: Function) -> Function:
        @functools.wraps(original)
        def zero_grad(optimizer: Any, set_to_none: bool = True) -> None:
            if not set_to_none:
                failures.pop(Knob.GRADIENTS.value, None)
            original(optimizer, set_to_none=True)

        return zero_grad

    hooks.replace(torch.optim.Optimizer, "zero_grad", force)
    hooks.replace(nn.Module, "zero_grad", force)


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _device_of(module: nn.Module) -> str:
    return next(module.parameters()).device.type


def _to_channels_last(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.ndim == 4:
        return value.contiguous(memory_format=torch.channels_last)
    return value


def _to_float(value: Any) -> Any:
    """What a model gave under autocast, in float32 again."""
    from torch.utils import _pytree as pytree

    def convert(leaf: Any) -> Any:
        is_low = isinstance(leaf, torch.Tensor) and leaf.dtype is torch.bfloat16
        return leaf.float() if is_low else leaf

    return pytree.tree_map(convert, value)
