"""Hooks on DataLoaders: who asks for a batch, and when an iterator is given up."""

import functools
import operator
import weakref
from _thread import get_ident
from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from ..interruption import pass_on
from ..schema.run import LoaderFacts
from ..schema.stage import Stage
from .hooks import Hooks
from .marks import name_frame
from .replacements import Function

MOST_LOADERS = 1_000
"""Iterators whose loaders are remembered; identities come back once they are gone."""
_TELLING = "_profkit_tells"


def hook_loaders(hooks: Hooks) -> None:
    """Requests for batches, and the start of workers."""

    def is_spent(key: int) -> bool:
        iterator = hooks.iterators[key]() if key in hooks.iterators else None
        try:
            return iterator is not None and iterator._num_yielded >= len(iterator)
        except Exception as error:  # one without a length, or of a torch unlike the known ones
            pass_on(error)
            return False

    hooks.clock.is_spent = is_spent
    hooks.replace(_BaseDataLoaderIter, "__next__", lambda f: _next(hooks, f))
    hooks.replace(DataLoader, "__iter__", lambda f: _iter(hooks, f))
    # A subclass may fetch ahead in a generator of its own: its requests are what counts.
    hooks.follow(DataLoader, "__iter__", lambda f: _outer_iter(hooks, f))


def _iter(hooks: Hooks, original: Function) -> Function:
    clock = hooks.clock

    @functools.wraps(original)
    def iterate(self: Any) -> Any:
        # A loader around this one may ask for it within its own first request.
        waiting = clock.is_waiting
        seen = not clock.busy or waiting or clock.making
        if seen and (get_ident() == clock.thread or clock.claim()):
            hooks.tell("on_loader", self)
            if self.num_workers:
                clock.starts_workers(id(getattr(self, "_iterator", None)))
        iterator = original(self)
        if waiting and self.num_workers:
            clock.restart()
        _note(hooks, id(iterator), self)
        return iterator

    return iterate


def _note(hooks: Hooks, key: int, loader: Any) -> None:
    if key == hooks.clock.training_loop:
        # Another iterator in the place of the one that was trained on.
        hooks.trained_on = hooks.training_loader
        hooks.clock.training_loop = 0
    if len(hooks.loaders) < MOST_LOADERS or key in hooks.loaders:
        batch_size = _number(loader, "batch_size")
        if batch_size is None:  # then a sampler of whole batches may tell
            batch_size = _number(getattr(loader, "batch_sampler", None), "batch_size")
        hooks.loaders[key] = LoaderFacts(
            source=type(loader).__name__,
            batch_size=batch_size,
            num_workers=_number(loader, "num_workers"),
            prefetch_factor=_number(loader, "prefetch_factor"),
            number=hooks.number_of(loader),
        )


def _number(loader: Any, name: str) -> int | None:
    try:
        return operator.index(getattr(loader, name))
    except Exception as error:  # a loader may have one of its own kind, or none
        pass_on(error)
        return None


def _outer_iter(hooks: Hooks, original: Function) -> Function:
    clock = hooks.clock

    @functools.wraps(original)
    def iterate(self: Any) -> Iterator[Any]:
        iterator: Iterator[Any]
        if clock.busy or (get_ident() != clock.thread and not clock.claim()):
            iterator = original(self)
        else:
            # It may ask for the first batch already, from the loader that it wraps.
            iterator = clock.make(original, self)
        if clock.stopped or isinstance(iterator, _BaseDataLoaderIter):
            return iterator
        if _tells(hooks, type(iterator)):
            clock.release(id(iterator))  # a loader that is its own iterator begins anew
            _note(hooks, id(iterator), self)
            return iterator
        return clock.watch(iterator, lambda key: _note(hooks, key, self))

    return iterate


def _tells(hooks: Hooks, kind: type) -> bool:
    """Whether iterators of a class tell of requests for batches; builtin ones cannot."""
    for made in kind.__mro__:
        if isinstance(own := made.__dict__.get("__next__"), FunctionType):
            if getattr(own, _TELLING, None) is not hooks.clock:
                hooks.replace(made, "__next__", lambda f: _next(hooks, f))
            return True
        if own is not None:
            break
    return False


def _next(hooks: Hooks, original: Function) -> Function:
    clock, watched = hooks.clock, hooks.iterators

    def forget(key: int, _: object) -> None:
        watched.pop(key, None)
        clock.release(key)

    @functools.wraps(original)
    def fetch(self: Any) -> Any:
        key = id(self)
        asked = clock.ask(key)
        if asked is None:
            return original(self)
        try:
            if key not in watched:
                # A `for` loop that is left drops its iterator at once.
                with suppress(TypeError):  # a class with slots may not let anybody know
                    watched[key] = weakref.ref(self, functools.partial(forget, key))
            batch = original(self)
            clock.got(batch, asked)
        except BaseException:
            clock.busy = clock.stopped  # before any call: a signal's handler may raise in it
            clock.got_none(key, asked)
            # Nothing is left to tell of it, and out of a finalizer no signal's handler can raise.
            watched.pop(key, None)
            raise
        return batch

    setattr(fetch, _TELLING, clock)
    name_frame(fetch, Stage.DATALOADER)
    return fetch
