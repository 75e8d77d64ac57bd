"""Hooks on what belongs to the optimizer: its step, scheduling, scaling, clipping."""

import functools
import weakref
from _thread import get_ident
from typing import Any

import torch
from torch import nn

from ..schema.stage import Stage
from .hooks import Function, Hooks, subclasses

_CLIPPING = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_")
MOST_OPTIMIZERS = 64
"""Optimizers that are remembered, for probes that look at their lines."""
_SCALING = ("scale", "unscale_", "step", "update")


def hook_optimizers(hooks: Hooks) -> None:
    """Steps of optimizers, and the end of a step where no loader opens the next one."""
    base = torch.optim.Optimizer
    hooks.replace(base, "zero_grad", lambda f: hooks.marked(f, Stage.OPTIMIZER))
    # torch wraps the `step` of each class when the first optimizer of it is made.
    hooks.replace(
        base, "profile_hook_step", lambda wrap: staticmethod(lambda f: _step(hooks, wrap(f)))
    )
    for made in subclasses(base):
        if getattr(made.__dict__.get("step"), "hooked", False):
            hooks.replace(made, "step", lambda f: _step(hooks, f))


def _step(hooks: Hooks, function: Function) -> Function:
    clock, optimizers = hooks.clock, hooks.optimizers
    step = hooks.marked(function, Stage.OPTIMIZER, trains=True)

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if id(self) not in optimizers and len(optimizers) < MOST_OPTIMIZERS:
            optimizers[id(self)] = weakref.ref(self)
        if clock.is_headless and not clock.busy and get_ident() == clock.thread:
            return clock.optimize(id(self), step, self, *args, **kwargs)
        return step(self, *args, **kwargs)

    return call


def hook_schedulers(hooks: Hooks) -> None:
    """Schedulers of the learning rate."""
    module = torch.optim.lr_scheduler
    for made in (*vars(module).values(), *subclasses(module.LRScheduler)):
        if isinstance(made, type) and "step" in made.__dict__ and hasattr(made, "get_last_lr"):
            hooks.replace(made, "step", lambda f: hooks.marked(f, Stage.OPTIMIZER))


def hook_gradients(hooks: Hooks) -> None:
    """Clipping and scaling of gradients."""
    for owner in (nn.utils, nn.utils.clip_grad):
        for name in _CLIPPING:
            hooks.replace(owner, name, lambda f: hooks.marked(f, Stage.OPTIMIZER))
    for name in _SCALING:
        hooks.replace(torch.amp.GradScaler, name, lambda f: hooks.marked(f, Stage.OPTIMIZER))
