"""Fixes of optimizers: their implementation, and how gradients are zeroed."""

import functools
import inspect
from typing import Any

import torch
from torch import nn

from ..schema.fix import Knob
from .fix_outcomes import FixOutcomes
from .replacements import Function, Replacements

_EXCLUDED = {"fused": "foreach", "foreach": "fused"}


class OptimizerFixes:
    """The fixes of the optimizers that a program makes.

    Args:
        settings: see `FixOrder`.
        outcomes: told what came of them.
    """

    def __init__(self, settings: dict[str, Any], outcomes: FixOutcomes) -> None:
        self._implementation: str | None = settings.get(Knob.OPTIMIZER.value)
        self._sets_to_none = Knob.GRADIENTS.value in settings
        self._outcomes = outcomes

    def install(self, hooks: Replacements) -> None:
        """Put them in place."""
        if self._implementation is not None:
            made: list[Any] = []  # AdamW calls Adam's
            for kind in vars(torch.optim).values():
                is_optimizer = isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
                if is_optimizer and "__init__" in kind.__dict__:
                    hooks.replace(
                        kind, "__init__", lambda f: self._make(f, self._implementation, made)
                    )
        if self._sets_to_none:
            hooks.replace(torch.optim.Optimizer, "zero_grad", self._zero_grad)
            hooks.replace(nn.Module, "zero_grad", self._zero_grad)

    def _make(self, original: Function, wanted: Any, made: list[Any]) -> Function:
        """An optimizer's `__init__`, with `fused` or `foreach` kernels where it has them."""
        names = inspect.signature(original).parameters
        excluded = {one: None for one in (_EXCLUDED[wanted],) if one in names}

        @functools.wraps(original)
        def init(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            if any(one is optimizer for one in made):
                original(optimizer, *args, **kwargs)
                return
            if wanted not in names:
                reason = f"{type(optimizer).__name__} has no {wanted} implementation"
                self._outcomes.pass_over(Knob.OPTIMIZER, reason)
                original(optimizer, *args, **kwargs)
                return
            if kwargs.get(wanted):
                reason = f"the optimizer is a {wanted} one already"
                self._outcomes.pass_over(Knob.OPTIMIZER, reason)
            else:
                self._outcomes.apply(Knob.OPTIMIZER)
            made.append(optimizer)
            try:
                original(optimizer, *args, **{**kwargs, **excluded, wanted: True})
            finally:
                made.pop()

        return init

    def _zero_grad(self, original: Function) -> Function:
        @functools.wraps(original)
        def zero_grad(owner: Any, set_to_none: bool = True) -> None:
            if set_to_none:
                self._outcomes.pass_over(Knob.GRADIENTS, "gradients are set to None already")
            else:
                self._outcomes.apply(Knob.GRADIENTS)
            original(owner, set_to_none=True)

        return zero_grad
