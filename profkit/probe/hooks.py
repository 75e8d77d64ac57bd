"""Hooks that report to a `LoopClock` what a script does, without a line changed in it.

Each is a wrapper in place of one function of torch, put there by `Hooks` and taken away again.
What is wrapped is called exactly as before; a wrapper draws no random number and waits for
nothing. Anything that torch.compile, TorchScript or `__torch_function__` treats by identity is
kept recognisable to them.
"""

import functools
import weakref
from _thread import get_ident
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..schema.run import LoaderFacts
from ..schema.stage import STAGES, Stage
from .loop_clock import LoopClock
from .marks import named_frame
from .partition import LEAVE

Function = Callable[..., Any]

MOST_LOADERS = 1_000
"""Iterators whose loaders are remembered; identities come back once they are gone."""

_FORWARD, _BACKWARD, _OPTIMIZER, _TRANSFER = map(
    STAGES.index, (Stage.FORWARD, Stage.BACKWARD, Stage.OPTIMIZER, Stage.TRANSFER)
)
_MISSING = object()
_CLIPPING = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_")
_SCALING = ("scale", "unscale_", "step", "update")
_COPYING = ("to", "cuda", "cpu", "xpu", "pin_memory")
_LOSSES = ("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")


class Hooks:
    """The wrappers of one observed program.

    Args:
        clock: what they report to.

    Attributes:
        gaps: what could not be hooked here, in words.
        loaders: how the batches of each loader are made, by the key of its iterator.
        on_loader: told a loader each time that it is about to be iterated, before its workers
            start; for probes that look into them.
        optimizers, models: the last few seen, for probes that look at their lines.
    """

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.gaps: list[str] = []
        self.loaders: dict[int, LoaderFacts] = {}
        self.on_loader: Callable[[Any], None] | None = None
        self.on_module: Callable[[nn.Module], None] | None = None
        self.optimizers: dict[int, Any] = {}
        self._undo: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        """Put all wrappers in place."""
        for hook in (
            self._hook_modules,
            self._hook_losses,
            self._hook_backward,
            self._hook_optimizers,
            self._hook_schedulers,
            self._hook_gradients,
            self._hook_copies,
            self._hook_loaders,
        ):
            try:
                hook()
            except Exception as error:  # a torch unlike the known ones must not stop a training
                name = hook.__name__.removeprefix("_hook_")
                self.gaps.append(f"{name} cannot be observed in this torch: {error!r}")

    def uninstall(self) -> None:
        """Take all of them away."""
        while self._undo:
            owner, name, original = self._undo.pop()
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)

    def replace(self, owner: Any, name: str, wrap: Callable[[Function], Any]) -> None:
        """Put `wrap(original)` in place of an attribute; nothing where there is none."""
        original = getattr(owner, name, None)
        if original is None:
            return
        kept = owner.__dict__.get(name, _MISSING)
        setattr(owner, name, wrap(original))
        self._undo.append((owner, name, kept))

    def marked(
        self, function: Function, stage: Stage, *, owns: bool = False, trains: bool = False
    ) -> Function:
        """The function with a mark around it.

        Args:
            function: called unchanged.
            stage: what its time counts as.
            owns: whether hooks below it pass through; else nested marks count for themselves.
            trains: whether it makes the step one of training.
        """
        clock, index, frame = self.clock, STAGES.index(stage), named_frame(stage)
        push, now, listener = clock.push, clock.now, clock.listener
        is_compiling = torch.compiler.is_compiling

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_compiling() or clock.busy:
                return function(*args, **kwargs)
            if trains:
                if not clock.claim_by_training():
                    return function(*args, **kwargs)
                clock.trainings += 1
                if not clock.step_is_open:
                    clock.begin()
            elif not clock.step_is_open or get_ident() != clock.thread:
                return function(*args, **kwargs)
            if listener is not None:
                listener.stage_begins(index)
            clock.busy = owns
            push((index, now()))
            try:
                return frame(function, *args, **kwargs)
            finally:
                push((LEAVE, now()))
                if owns:
                    clock.busy = clock.stopped
                if listener is not None:
                    listener.stage_ends()

        # TorchScript compiles what it is given: let it be the original.
        call.__prepare_scriptable__ = lambda: function  # type: ignore[attr-defined]
        return call

    def _hook_modules(self) -> None:
        self.replace(nn.Module, "__call__", self._module_call)
        self.replace(nn.Module, "zero_grad", lambda f: self.marked(f, Stage.OPTIMIZER))

    def _module_call(self, original: Function) -> Function:
        clock, frame = self.clock, named_frame(Stage.FORWARD)
        push, now, listener = clock.push, clock.now, clock.listener
        modules, trained = clock.modules, clock.trained_modules
        is_compiling, keeps_gradients = torch.compiler.is_compiling, torch.is_grad_enabled
        meet = self._meet
        is_known = original is getattr(nn.Module, "_wrapped_call_impl", None)

        def profkit_module_call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
            if clock.busy:
                # What torch's own `__call__` does, without a call more: a model may have
                # thousands of modules inside the one that is called.
                if not is_known or self._compiled_call_impl is not None:
                    return original(self, *args, **kwargs)
                return self._call_impl(*args, **kwargs)
            if is_compiling() or not (get_ident() == clock.thread or clock.claim()):
                return original(self, *args, **kwargs)
            if not clock.step_is_open:
                clock.begin()
            if id(self) not in modules:
                meet(self)
            if self.training:
                if id(self) not in trained:
                    clock.trains(self)
            elif not keeps_gradients():
                clock.evaluates(self)
            clock.forwards += 1
            if listener is not None:
                listener.stage_begins(_FORWARD)
            clock.busy = True
            push((_FORWARD, now()))
            try:
                return frame(original, self, *args, **kwargs)
            finally:
                push((LEAVE, now()))
                clock.busy = clock.stopped
                if listener is not None:
                    listener.stage_ends()

        return profkit_module_call

    def _meet(self, module: nn.Module) -> None:
        self.clock.meet(module)
        if self.on_module is not None:
            self.on_module(module)

    def _hook_losses(self) -> None:
        for name in dir(nn.functional):
            if (name.endswith("_loss") and not name.startswith("_")) or name in _LOSSES:
                self.replace(
                    nn.functional, name, lambda f: self.marked(f, Stage.FORWARD, owns=True)
                )

    def _hook_backward(self) -> None:
        def mark(function: Function) -> Function:
            return self.marked(function, Stage.BACKWARD, owns=True, trains=True)

        self.replace(torch.Tensor, "backward", mark)
        self.replace(torch.autograd, "backward", mark)
        self.replace(torch.autograd, "grad", mark)

    def _hook_optimizers(self) -> None:
        base = torch.optim.Optimizer
        self.replace(base, "zero_grad", lambda f: self.marked(f, Stage.OPTIMIZER))
        # torch wraps the `step` of each class when the first optimizer of it is made.
        self.replace(
            base, "profile_hook_step", lambda wrap: staticmethod(lambda f: self._step(wrap(f)))
        )
        for made in _subclasses(base):
            if getattr(made.__dict__.get("step"), "hooked", False):
                self.replace(made, "step", self._step)

    def _step(self, function: Function) -> Function:
        clock, optimizers = self.clock, self.optimizers
        step = self.marked(function, Stage.OPTIMIZER, trains=True)

        @functools.wraps(function)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if clock.busy:
                return function(self, *args, **kwargs)
            if id(self) not in optimizers and len(optimizers) < 64:
                optimizers[id(self)] = weakref.ref(self)
            result = step(self, *args, **kwargs)
            if get_ident() == clock.thread:
                clock.optimized(id(self))
            return result

        return call

    def _hook_schedulers(self) -> None:
        module = torch.optim.lr_scheduler
        for made in (*vars(module).values(), *_subclasses(module.LRScheduler)):
            if isinstance(made, type) and "step" in made.__dict__ and hasattr(made, "get_last_lr"):
                self.replace(made, "step", lambda f: self.marked(f, Stage.OPTIMIZER))

    def _hook_gradients(self) -> None:
        for owner in (nn.utils, nn.utils.clip_grad):
            for name in _CLIPPING:
                self.replace(owner, name, lambda f: self.marked(f, Stage.OPTIMIZER))
        for name in _SCALING:
            self.replace(torch.amp.GradScaler, name, lambda f: self.marked(f, Stage.OPTIMIZER))

    def _hook_copies(self) -> None:
        for name in _COPYING:
            self.replace(torch.Tensor, name, self._copy)

    def _copy(self, function: Function) -> Function:
        """A method of a tensor that may copy it to other memory."""
        clock, frame = self.clock, named_frame(Stage.TRANSFER)
        push, now, listener = clock.push, clock.now, clock.listener
        is_compiling = torch.compiler.is_compiling

        @functools.wraps(function)
        def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if is_compiling():
                return function(tensor, *args, **kwargs)
            marks = not clock.busy and clock.step_is_open and get_ident() == clock.thread
            if has_torch_function_unary(tensor):
                # A subclass knows the method by the name under which it is called: this one.
                if not marks:
                    return handle_torch_function(call, (tensor,), tensor, *args, **kwargs)
                clock.busy = True
                began = now()
                try:
                    copy = frame(handle_torch_function, call, (tensor,), tensor, *args, **kwargs)
                finally:
                    clock.busy = clock.stopped
            elif not marks:
                return function(tensor, *args, **kwargs)
            else:
                began = now()
                copy = frame(function, tensor, *args, **kwargs)
            # Most are no copy at all, or one within the same memory.
            if getattr(copy, "device", None) != tensor.device or (
                copy is not tensor and function.__name__ == "pin_memory"
            ):
                push((_TRANSFER, began, LEAVE, now()))
                if listener is not None:
                    listener.stage_begins(_TRANSFER)
                    listener.stage_ends()
            return copy

        return call

    def _hook_loaders(self) -> None:
        from torch.utils.data import DataLoader
        from torch.utils.data.dataloader import _BaseDataLoaderIter

        self.replace(_BaseDataLoaderIter, "__next__", self._next)
        self.replace(DataLoader, "__iter__", self._iter)
        # A subclass may fetch ahead in a generator of its own: its requests are what counts.
        for made in _subclasses(DataLoader):
            if "__iter__" in made.__dict__:
                self.replace(made, "__iter__", self._outer_iter)
        self.replace(DataLoader, "__init__", self._loader_init)

    def _loader_init(self, original: Function) -> Function:
        from torch.utils.data import DataLoader

        hooks = self
        known = {DataLoader, *_subclasses(DataLoader)}

        @functools.wraps(original)
        def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
            original(self, *args, **kwargs)
            for made in type(self).__mro__:
                if made in known:
                    break
                known.add(made)
                if "__iter__" in made.__dict__:
                    hooks.replace(made, "__iter__", hooks._outer_iter)

        return __init__

    def _iter(self, original: Function) -> Function:
        clock, hooks = self.clock, self

        @functools.wraps(original)
        def __iter__(self: Any) -> Any:
            if not clock.busy and (get_ident() == clock.thread or clock.claim()):
                if hooks.on_loader is not None:
                    hooks.on_loader(self)
                if self.num_workers:
                    clock.starts_workers(id(getattr(self, "_iterator", None)))
            iterator = original(self)
            hooks._note_loader(id(iterator), self)
            return iterator

        return __iter__

    def _note_loader(self, key: int, loader: Any) -> None:
        if len(self.loaders) < MOST_LOADERS or key in self.loaders:
            self.loaders[key] = LoaderFacts(
                source=type(loader).__name__,
                batch_size=getattr(loader, "batch_size", None),
                num_workers=getattr(loader, "num_workers", None),
                prefetch_factor=getattr(loader, "prefetch_factor", None),
            )

    def _outer_iter(self, original: Function) -> Function:
        clock, hooks = self.clock, self

        @functools.wraps(original)
        def __iter__(self: Any) -> Iterator[Any]:
            iterator = original(self)
            if clock.busy:
                return iterator  # type: ignore[no-any-return]
            return clock.watch(iterator, lambda key: hooks._note_loader(key, self))

        return __iter__

    def _next(self, original: Function) -> Function:
        clock, frame = self.clock, named_frame(Stage.DATALOADER)
        watched: dict[int, weakref.ref[Any]] = {}

        def forget(key: int, _: object) -> None:
            watched.pop(key, None)
            clock.release(key)

        @functools.wraps(original)
        def __next__(self: Any) -> Any:
            if clock.busy:
                return original(self)
            key = id(self)
            if key not in watched:
                # A `for` loop that is left drops its iterator at once.
                watched[key] = weakref.ref(self, functools.partial(forget, key))
            return clock.fetch(key, lambda: frame(original, self))

        return __next__


def _subclasses(base: type) -> Iterator[type]:
    for made in base.__subclasses__():
        yield made
        yield from _subclasses(made)
