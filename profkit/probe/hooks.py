"""Hooks that report to a `LoopClock` what a script does, without a line changed in it.

Each is a wrapper in place of one function of torch, put there by `Hooks` and taken away again.
What is wrapped is called exactly as before; a wrapper draws no random number and waits for
nothing. Anything that torch.compile, TorchScript or `__torch_function__` treats by identity is
kept recognisable to them.
"""

import functools
import weakref
from _thread import get_ident
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..interruption import pass_on
from ..schema.run import LoaderFacts
from ..schema.stage import STAGES, Stage
from .loop_clock import LoopClock
from .marks import name_frame
from .module_call import module_call
from .partition import LEAVE
from .replacements import Function, Replacements

_FORWARD = STAGES.index(Stage.FORWARD)
_LOSSES = ("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div")


class Hooks(Replacements):
    """The wrappers of one observed program.

    Args:
        clock: what they report to.

    Attributes:
        gaps: what could not be hooked here, in words.
        loaders: how the batches of each loader are made, by the key of its iterator.
        trained_on: how those of the training loop were made, once its iterator is gone.
        iterators: those that were asked for batches, by key, for as long as they live.
        on_loader: told a loader each time that it is about to be iterated, before its workers
            start; for probes that look into them.
        number_of: under which number what a loader's batches cost is recorded.
        reducers: `DistributedDataParallel` modules whose gradients are watched.
        optimizers: the first few seen, for probes that look at their lines.
        tensor_methods: the originals of those that have a wrapper.
        installed: whether the wrappers are in place.
    """

    def __init__(self, clock: LoopClock) -> None:
        super().__init__()
        self.clock = clock
        self.gaps: list[str] = []
        self.loaders: dict[int, LoaderFacts] = {}
        self.trained_on: LoaderFacts | None = None
        self.iterators: dict[int, weakref.ref[Any]] = {}
        self.on_loader: Callable[[Any], None] | None = None
        self.on_module: Callable[[nn.Module], None] | None = None
        self.number_of: Callable[[Any], int | None] = lambda loader: None
        self.optimizers: dict[int, Any] = {}
        self.reducers: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._at_end: list[Callable[[], None]] = []
        self._watch_reducer: Callable[[Hooks, nn.Module], None] = lambda hooks, module: None
        self.tensor_methods: set[Function] = set()
        self.installed = False

    def install(self) -> None:
        """Put all wrappers in place."""
        # Here, since each of them builds on this module.
        from .collective_hooks import hook_collectives, watch_reducer
        from .compiler_hooks import hook_compiler
        from .copy_hooks import hook_copies
        from .loader_hooks import hook_loaders
        from .optimizer_hooks import hook_gradients, hook_optimizers, hook_schedulers

        self._watch_reducer = watch_reducer
        self.installed = True
        for hook in (
            Hooks._hook_modules,
            Hooks._hook_losses,
            Hooks._hook_backward,
            hook_optimizers,
            hook_schedulers,
            hook_gradients,
            hook_copies,
            hook_loaders,
            hook_collectives,
            hook_compiler,
        ):
            try:
                hook(self)
            except Exception as error:  # a torch unlike the known ones must not stop a training
                pass_on(error)
                name = hook.__name__.removeprefix("_").removeprefix("hook_")
                self.gaps.append(f"{name} cannot be observed in this torch: {error!r}")

    def uninstall(self) -> None:
        """Take all of them away."""
        self.installed = False
        self.put_back()
        while self._at_end:
            self._at_end.pop()()

    @property
    def training_loader(self) -> LoaderFacts | None:
        """How the batches that were trained on last are made; None where no loader did."""
        return self.loaders.get(self.clock.training_loop) or self.trained_on

    def on_uninstall(self, act: Callable[[], None]) -> None:
        """Have `act` called when the wrappers have gone away."""
        self._at_end.append(act)

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
        clock, index = self.clock, STAGES.index(stage)
        push, now, listener = clock.push, clock.now, clock.listener

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if clock.busy:
                return function(*args, **kwargs)
            if get_ident() != clock.thread and not (trains and clock.claim_by_training()):
                return function(*args, **kwargs)
            if trains:
                clock.trainings += 1
                if not clock.step_is_open:
                    clock.begin()
            elif not clock.step_is_open:
                return function(*args, **kwargs)
            # All of it within: a signal's handler may raise after any call.
            try:
                if listener is not None:
                    listener.stage_begins(index)
                clock.busy = owns
                push((index, now()))
                return function(*args, **kwargs)
            finally:
                clock.busy = clock.stopped
                push((LEAVE, now()))
                if listener is not None:
                    listener.stage_ends()

        name_frame(call, stage)
        return call

    def _hook_modules(self) -> None:
        self.replace(nn.Module, "__call__", self._module_call)
        self.replace(nn.Module, "zero_grad", lambda f: self.marked(f, Stage.OPTIMIZER))

    def _module_call(self, original: Function) -> Function:
        clock = self.clock
        push, now, listener = clock.push, clock.now, clock.listener
        modules, trained = clock.modules, clock.trained_modules
        keeps_gradients, meet = torch.is_grad_enabled, self._meet

        def outermost(module: nn.Module, args: Any, kwargs: Any) -> Any:
            if clock.busy or (get_ident() != clock.thread and not clock.claim()):
                return original(module, *args, **kwargs)
            if not clock.step_is_open:
                clock.begin()
            if id(module) not in modules:
                meet(module)
            # A frozen TorchScript module has no such attribute.
            if getattr(module, "training", False):
                if id(module) not in trained:
                    clock.trains(module)
            elif not keeps_gradients():
                clock.evaluates(module)
            clock.forwards += 1
            try:  # likewise
                if listener is not None:
                    listener.stage_begins(_FORWARD)
                clock.busy = True
                push((_FORWARD, now()))
                return original(module, *args, **kwargs)
            finally:
                clock.busy = clock.stopped
                push((LEAVE, now()))
                if listener is not None:
                    listener.stage_ends()

        name_frame(outermost, Stage.FORWARD)
        call = module_call(clock, original, outermost)
        hide_from_compilers(call, original)
        return call

    def _meet(self, module: nn.Module) -> None:
        self.clock.meet(module)
        try:
            self._watch_reducer(self, module)
        except Exception as error:  # a torch unlike the known ones must not stop a training
            pass_on(error)
            self.gaps.append(f"waits for other ranks were not observed: {error!r}")
        self.tell("on_module", module)

    def tell(self, probe: str, seen: object) -> None:
        """Tell a probe (`on_loader`, `on_module`) what was seen; one that fails, no more."""
        told = getattr(self, probe)
        if told is not None:
            try:
                told(seen)
            except Exception as error:  # whatever the reason: not worth a training run
                pass_on(error)
                setattr(self, probe, None)
                self.gaps.append(f"looking into a {type(seen).__name__} failed: {error!r}")

    def _hook_losses(self) -> None:
        def mark(function: Function) -> Any:
            return hide_from_compilers(self.marked(function, Stage.FORWARD, owns=True), function)

        for name in dir(nn.functional):
            if (name.endswith("_loss") and not name.startswith("_")) or name in _LOSSES:
                self.replace(nn.functional, name, mark)

    def _hook_backward(self) -> None:
        def mark(function: Function) -> Function:
            return self.marked(function, Stage.BACKWARD, owns=True, trains=True)

        self.replace(torch.Tensor, "backward", mark)
        # What `autograd.backward` and `grad` call: the compiler knows these by their identity.
        engine = mark(torch.autograd.graph._engine_run_backward)
        for owner in (torch.autograd, torch.autograd.graph):
            self.replace(owner, "_engine_run_backward", lambda _: engine)


def hide_from_compilers(wrapper: Any, original: Function) -> Any:
    """The wrapper, in place of which torch.compile and TorchScript see the original.

    For functions only: the compiler would call the original of a method without its object.
    """
    wrapper._torchdynamo_inline = original
    wrapper.__prepare_scriptable__ = lambda: original
    return wrapper
