"""Hooks on what belongs to the optimizer: its step, scheduling, scaling, clipping."""

import functools
import inspect
import weakref
from _thread import get_ident
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..schema.stage import STAGES, Stage
from .hooks import Hooks, hide_from_compilers
from .marks import named_frame
from .partition import LEAVE
from .replacements import Function, subclasses

_CLIPPING = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_")
MOST_OPTIMIZERS = 64
"""Optimizers that are remembered, for probes that look at their lines."""
_OTHER = STAGES.index(Stage.OTHER)
_SCALING = ("scale", "unscale_", "step", "update")


def hook_optimizers(hooks: Hooks) -> None:
    """Steps of optimizers, and the end of a step where no loader opens the next one."""
    base = torch.optim.Optimizer
    hooks.replace(base, "zero_grad", lambda f: hooks.marked(f, Stage.OPTIMIZER))
    # torch wraps the `step` of each class when the first optimizer of it is made.
    made_here: dict[Function, Function] = {}

    def wrap_step(original: Function) -> Any:
        def wrap(step: Function) -> Function:
            plain = original(step)
            hooked = _step(hooks, plain)
            made_here[hooked] = plain
            return hooked

        return staticmethod(functools.wraps(original)(wrap))

    def put_back() -> None:
        for made in subclasses(base):
            plain = made_here.get(made.__dict__.get("step", None))
            if plain is not None:
                plain.hooked = True  # type: ignore[attr-defined]  # as torch marks what it wrapped
                made.step = plain  # type: ignore[attr-defined]

    hooks.replace(base, "profile_hook_step", wrap_step)
    hooks.on_uninstall(put_back)
    for made in subclasses(base):
        if getattr(made.__dict__.get("step"), "hooked", False):
            hooks.replace(made, "step", lambda f: _step(hooks, f))


def _step(hooks: Hooks, function: Function) -> Function:
    clock, optimizers = hooks.clock, hooks.optimizers
    step = hooks.marked(function, Stage.OPTIMIZER, trains=True)
    subtracted = _closures(hooks) if _takes_closure(function) else None

    @functools.wraps(function)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if id(self) not in optimizers and len(optimizers) < MOST_OPTIMIZERS:
            optimizers[id(self)] = weakref.ref(self)
        if subtracted is not None and (args or kwargs):
            if args and callable(args[0]):
                args = (subtracted(args[0]), *args[1:])
            elif callable(kwargs.get("closure")):
                kwargs["closure"] = subtracted(kwargs["closure"])
        if clock.is_headless and not clock.busy and (get_ident() == clock.thread or clock.claim()):
            return clock.optimize(id(self), step, self, *args, **kwargs)
        return step(self, *args, **kwargs)

    return call


def _takes_closure(step: Function) -> bool:
    try:
        return list(inspect.signature(step).parameters)[1:2] == ["closure"]
    except ValueError:  # written in C
        return False


def _closures(hooks: Hooks) -> Callable[[Function], Function]:
    """Marks what an optimizer calls back: a whole training step, in some frameworks.

    Its forward and backward say so themselves; the rest of it is the user's code, not the
    optimizer's.
    """
    clock, frame = hooks.clock, named_frame(Stage.OTHER)

    def subtracted(closure: Function) -> Function:
        def call(*args: Any, **kwargs: Any) -> Any:
            if clock.busy or not clock.step_is_open or get_ident() != clock.thread:
                return closure(*args, **kwargs)
            if clock.listener is not None:
                clock.listener.stage_begins(_OTHER)
            clock.push((_OTHER, clock.now()))
            try:
                return frame(closure, *args, **kwargs)
            finally:
                clock.push((LEAVE, clock.now()))
                if clock.listener is not None:
                    clock.listener.stage_ends()

        functools.update_wrapper(call, closure)
        return call

    return subtracted


def hook_schedulers(hooks: Hooks) -> None:
    """Schedulers of the learning rate."""
    base = torch.optim.lr_scheduler.LRScheduler
    hooks.replace(base, "step", lambda f: hooks.marked(f, Stage.OPTIMIZER))
    hooks.follow(base, "step", lambda f: hooks.marked(f, Stage.OPTIMIZER))


def hook_gradients(hooks: Hooks) -> None:
    """Clipping and scaling of gradients."""
    wrappers: dict[Function, Function] = {}

    def mark(function: Function) -> Function:
        # One for both names: a pickled function is looked up by the module that it comes from.
        marked = hide_from_compilers(hooks.marked(function, Stage.OPTIMIZER), function)
        return wrappers.setdefault(function, marked)

    for owner in (nn.utils, nn.utils.clip_grad):
        for name in _CLIPPING:
            hooks.replace(owner, name, mark)
    for name in _SCALING:
        hooks.replace(torch.amp.GradScaler, name, lambda f: hooks.marked(f, Stage.OPTIMIZER))
