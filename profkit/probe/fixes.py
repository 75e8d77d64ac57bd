"""Applies fixes to a program that is about to run, without a line changed in it.

Each is put below the hooks that observe: what it does counts as part of the stage that it is in.
"""

import functools
import inspect
import os
import sys
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data._utils.fetch import _MapDatasetFetcher
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from ..interruption import pass_on
from ..schema.fix import ALL_LOADERS, FixFacts, FixOrder, Knob
from .batched_fetch import BatchedFetch
from .memory_data import MemoryData, NotSameError
from .replacements import Function, Replacements
from .sameness import Sameness

_OWN = ("torch.", "profkit.")
_MEMORY_SHARE = 0.3
"""Of the memory that is free, what decoded data may take."""
DECODE_S = 60.0
"""How long decoding the data may take."""
KEPT_BYTES, KEPT_MMAP_BYTES = 1 << 30, 32 << 20
"""Freed memory that a process keeps, and the largest piece that comes from there; glibc takes no
larger one."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""
_LOADER_KNOBS = {
    Knob.WORKERS: "num_workers",
    Knob.PREFETCH: "prefetch_factor",
    Knob.PERSISTENT: "persistent_workers",
    Knob.PIN: "pin_memory",
}


class AppliedFixes:
    """The fixes of one instance of a program.

    Args:
        order: what to apply.
    """

    def __init__(self, order: FixOrder) -> None:
        self._order = order
        self._owner = os.getpid()
        self._place = os.getcwd()
        self._failures: dict[str, str] = {}
        self._notes: list[str] = []
        self._numbered: list[str] = []
        self._same = Sameness(order.watched)
        self._sites: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._kept: weakref.WeakKeyDictionary[Any, MemoryData] = weakref.WeakKeyDictionary()
        # By dataset and collate function, which are kept so that no other gets their number.
        self._batched: dict[tuple[int, int], tuple[BatchedFetch, Any, Any]] = {}
        self._models = _ModelFixes(order.settings, self._fail)

    def install(self, hooks: Replacements) -> None:
        """Put all of them in place; torch is imported, and the program did nothing yet."""
        settings = self._order.settings
        self._same.install(hooks)
        hooks.replace(DataLoader, "__init__", self._make_loader)
        if Knob.DATA.value in settings:
            hooks.replace(_SingleProcessDataLoaderIter, "__init__", self._begin_single)
        if Knob.FETCH.value in settings:
            hooks.replace(_MapDatasetFetcher, "fetch", self._fetch)
        if self._models.is_needed:
            hooks.replace(nn.Module, "__call__", self._models.call)
        for knob, apply in _AT_ONCE.items():
            if knob.value in settings:
                self._quietly(knob, apply, hooks, settings[knob.value], self._failures)

    def number_of(self, loader: Any) -> int | None:
        """A number for where a loader was made."""
        site = self._sites.get(loader)
        if site is None:
            return None
        if site not in self._numbered:
            self._numbered.append(site)
        return self._numbered.index(site)

    def facts(self, number: int | None) -> FixFacts:
        """What became of them.

        Args:
            number: of the place where the loader that feeds the training was made.
        """
        site = None if number is None else self._numbered[number]
        return FixFacts(
            failures=dict(self._failures),
            batches=tuple(self._same.batches),
            losses=tuple(self._same.losses),
            loader=site,
            notes=tuple(self._notes),
        )

    def _fail(self, knob: Knob, reason: str) -> None:
        self._failures.setdefault(knob.value, reason)

    def _quietly(self, knob: Knob, act: Callable[..., Any], *args: Any) -> Any:
        try:
            return act(*args)
        except NotSameError as reason:
            self._fail(knob, str(reason))
        except Exception as error:  # then this fix is skipped, and says why
            pass_on(error)
            self._fail(knob, f"{type(error).__name__}: {error}")
        return None

    # Loaders ------------------------------------------------------------------------------------

    def _make_loader(self, original: Function) -> Function:
        known = inspect.signature(original)

        @functools.wraps(original)
        def init(loader: Any, *args: Any, **kwargs: Any) -> None:
            site = _site(self._place)
            if self._is_meant(site) and os.getpid() == self._owner:
                try:
                    bound = known.bind(loader, *args, **kwargs)
                except TypeError:  # the program's own mistake: the original will say so
                    pass
                else:
                    bound.arguments.update(self._changed(bound.arguments))
                    args, kwargs = bound.args[1:], bound.kwargs
            original(loader, *args, **kwargs)
            self._sites[loader] = site
            if Knob.FETCH.value in self._order.settings and site == self._order.loader:
                self._quietly(Knob.FETCH, self._fetch_in_batches, loader)

        return init

    def _is_meant(self, site: str | None) -> bool:
        wanted = self._order.loader
        return site is not None and wanted in (site, ALL_LOADERS)

    def _changed(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a DataLoader that fixes set."""
        settings = self._order.settings
        changes = {
            name: settings[knob.value]
            for knob, name in _LOADER_KNOBS.items()
            if knob.value in settings
        }
        if Knob.DATA.value in settings:
            changes["num_workers"] = 0
        workers = changes.get("num_workers", given.get("num_workers", 0))
        if not workers:
            changes |= {"prefetch_factor": None, "persistent_workers": False, "timeout": 0}
            changes["multiprocessing_context"] = None
        return changes

    def _fetch_in_batches(self, loader: Any) -> None:
        if os.getpid() != self._owner or Knob.FETCH.value in self._failures:
            return
        if not loader._auto_collation:
            raise NotSameError("the loader does not put samples together")
        if loader.num_workers and _start_method(loader) != "fork":
            raise NotSameError("it is only applied to workers that are forked")
        batched = BatchedFetch(loader.dataset, loader.collate_fn)
        key = id(loader.dataset), id(loader.collate_fn)
        self._batched[key] = batched, loader.dataset, loader.collate_fn

    def _fetch(self, original: Function) -> Function:
        """The method of a fetcher that gets a batch; forked workers have it too."""

        @functools.wraps(original)
        def fetch(fetcher: Any, possibly_batched_index: Any) -> Any:
            known = self._batched.get((id(fetcher.dataset), id(fetcher.collate_fn)))
            if known is None or not fetcher.auto_collation:
                return original(fetcher, possibly_batched_index)
            return known[0].fetch(possibly_batched_index)

        return fetch

    def _begin_single(self, original: Function) -> Function:
        @functools.wraps(original)
        def init(iterator: Any, loader: Any) -> None:
            original(iterator, loader)
            if self._is_meant(self._sites.get(loader)):
                self._quietly(Knob.DATA, self._keep_in_memory, iterator, loader)

        return init

    def _keep_in_memory(self, iterator: Any, loader: Any) -> None:
        if Knob.DATA.value in self._failures:
            return
        fetcher = iterator._dataset_fetcher
        if not loader._auto_collation:
            raise NotSameError("the loader does not put samples together")
        kept = self._kept.get(loader)
        if kept is None:
            began = time.monotonic()
            most = int(_MEMORY_SHARE * _free_bytes())
            kept = MemoryData(loader.dataset, loader.collate_fn, most, began + DECODE_S)
            self._kept[loader] = kept
            self._notes.append(
                f"decoding the data once took {time.monotonic() - began:.1f} s; it takes "
                f"{kept.size_bytes / 1e6:.0f} MB"
            )
        fetcher.fetch = kept.fetch


class _ModelFixes:
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


def _set_threads(hooks: Replacements, count: int, _: dict[str, str]) -> None:
    torch.set_num_threads(count)
    owner = os.getpid()

    def keep(original: Function) -> Function:
        @functools.wraps(original)
        def set_num_threads(wanted: int) -> None:
            if os.getpid() != owner:  # a loader worker, which has one
                original(wanted)

        return set_num_threads

    hooks.replace(torch, "set_num_threads", keep)


def _set_optimizer(hooks: Replacements, implementation: str, failures: dict[str, str]) -> None:
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


def _set_to_none(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
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


def _keep_freed_memory(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    """Have malloc keep what is freed: given back to the system, it comes back page by page."""
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        raise RuntimeError("the C library has no mallopt")
    for option, size in ((_M_MMAP_THRESHOLD, KEPT_MMAP_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES)):
        if not set_option(option, size):
            raise RuntimeError("the C library refuses it")


def _set_cudnn(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    torch.backends.cudnn.benchmark = True


def _set_tf32(hooks: Replacements, _: Any, failures: dict[str, str]) -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


_AT_ONCE: dict[Knob, Callable[[Replacements, Any, dict[str, str]], None]] = {
    Knob.THREADS: _set_threads,
    Knob.OPTIMIZER: _set_optimizer,
    Knob.GRADIENTS: _set_to_none,
    Knob.HEAP: _keep_freed_memory,
    Knob.CUDNN: _set_cudnn,
    Knob.TF32: _set_tf32,
}


def _site(place: str) -> str:
    """Where the program makes what is being made: its first frame outside of torch and profkit.

    Args:
        place: where it was started: instances have copies of their own, in other places.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(_OWN):
        frame = frame.f_back
    if frame is None:
        return "?"
    file = os.path.join(place, frame.f_code.co_filename)
    return f"{file.removeprefix(os.path.join(place, ''))}:{frame.f_lineno}"


def _start_method(loader: Any) -> str | None:
    import multiprocessing

    context = loader.multiprocessing_context
    method: str | None = (
        multiprocessing.get_start_method() if context is None else context.get_start_method()
    )
    return method


def _free_bytes() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


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
