"""Hooks on what makes ranks wait for each other, as far as the host waits for it."""

import functools
from typing import Any

import torch
from torch import nn

from .hooks import Hooks
from .loop_clock import LoopClock
from .replacements import Function

_COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "monitored_barrier",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
    "_broadcast_coalesced",
)
_LEARNING_STEPS = 8
"""Steps in which every gradient is watched, to learn which one is ready last."""


def hook_collectives(hooks: Hooks) -> None:
    """Collectives that are called by name, and works that are waited for."""
    if not torch.distributed.is_available():
        return
    import torch.distributed.distributed_c10d as c10d

    wrappers: dict[Function, Function] = {}

    def mark(function: Function) -> Function:
        # One for both names: a pickled function is looked up by the module that it comes from.
        if function not in wrappers:
            wrappers[function] = _waiting(hooks.clock, function)
        return wrappers[function]

    for owner in (torch.distributed, c10d):
        for name in _COLLECTIVES:
            hooks.replace(owner, name, mark)
    hooks.replace(c10d.Work, "wait", lambda f: _waiting(hooks.clock, f))


def watch_reducer(hooks: Hooks, module: nn.Module) -> None:
    """A `DistributedDataParallel`: what follows its last gradient is a wait for other ranks.

    Its reducer runs in C++, within the backward pass, and tells nobody. On a GPU the host does not
    wait there, and nothing is known.
    """
    if not isinstance(module, nn.parallel.DistributedDataParallel) or module in hooks.reducers:
        return
    hooks.reducers.add(module)
    if module.device_type != "cpu":
        hooks.clock.watches_collectives = False
        hooks.gaps.append(
            "waits for other ranks happen on the device and were not observed: stages of the host "
            "alone cannot tell a slow rank from one that is kept waiting"
        )
        return
    hooks.clock.watches_collectives = True
    _LastGradient(hooks, module)


class _LastGradient:
    """Notes when the last gradient of a backward pass is ready."""

    def __init__(self, hooks: Hooks, module: nn.Module) -> None:
        self._clock = hooks.clock
        self._latest = self._step = -1
        self._steps = 0
        self._last: set[int] = set()
        trained = [one for one in module.parameters() if one.requires_grad]
        self._handles: list[Any] = [
            one.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                functools.partial(self._ready, row)
            )
            for row, one in enumerate(trained)
        ]
        hooks.on_uninstall(self._remove)

    def _ready(self, row: int, _: object) -> None:
        clock = self._clock
        if self._steps < _LEARNING_STEPS and clock.serial != self._step:
            self._learn()
            self._step = clock.serial
        self._latest = row
        clock.waits_for_ranks()

    def _learn(self) -> None:
        if self._latest >= 0:
            self._last.add(self._latest)
        self._steps += 1
        if self._steps == _LEARNING_STEPS:
            for row, handle in enumerate(self._handles):
                if row not in self._last:
                    handle.remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()


def _waiting(clock: LoopClock, function: Function) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        clock.waits_for_ranks()
        try:
            return function(*args, **kwargs)
        finally:
            clock.waited_for_ranks()

    call._torchdynamo_inline = function  # type: ignore[attr-defined]
    return call
