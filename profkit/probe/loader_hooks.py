"""Hooks on DataLoaders: who asks for a batch, and when an iterator is given up."""

import functools
import weakref
from _thread import get_ident
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from ..schema.run import LoaderFacts
from ..schema.stage import Stage
from .hooks import Function, Hooks
from .marks import name_frame

MOST_LOADERS = 1_000
"""Iterators whose loaders are remembered; identities come back once they are gone."""


def hook_loaders(hooks: Hooks) -> None:
    """Requests for batches, and the start of workers."""
    hooks.replace(_BaseDataLoaderIter, "__next__", lambda f: _next(hooks, f))
    hooks.replace(DataLoader, "__iter__", lambda f: _iter(hooks, f))
    # A subclass may fetch ahead in a generator of its own: its requests are what counts.
    hooks.follow(DataLoader, "__iter__", lambda f: _outer_iter(hooks, f))


def _iter(hooks: Hooks, original: Function) -> Function:
    clock = hooks.clock

    @functools.wraps(original)
    def iterate(self: Any) -> Any:
        if not clock.busy and (get_ident() == clock.thread or clock.claim()):
            hooks.tell("on_loader", self)
            if self.num_workers:
                clock.starts_workers(id(getattr(self, "_iterator", None)))
        iterator = original(self)
        _note(hooks, id(iterator), self)
        return iterator

    return iterate


def _note(hooks: Hooks, key: int, loader: Any) -> None:
    if key == hooks.clock.training_loop:
        # Another iterator in the place of the one that was trained on.
        hooks.trained_on = hooks.training_loader
        hooks.clock.training_loop = 0
    if len(hooks.loaders) < MOST_LOADERS or key in hooks.loaders:
        batch_size = getattr(loader, "batch_size", None)
        if batch_size is None:  # then a sampler of whole batches may tell
            batch_size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
        hooks.loaders[key] = LoaderFacts(
            source=type(loader).__name__,
            batch_size=batch_size if isinstance(batch_size, int) else None,
            num_workers=getattr(loader, "num_workers", None),
            prefetch_factor=getattr(loader, "prefetch_factor", None),
        )


def _outer_iter(hooks: Hooks, original: Function) -> Function:
    clock = hooks.clock

    @functools.wraps(original)
    def iterate(self: Any) -> Iterator[Any]:
        iterator = original(self)
        if clock.busy:
            return iterator  # type: ignore[no-any-return]
        return clock.watch(iterator, lambda key: _note(hooks, key, self))

    return iterate


def _next(hooks: Hooks, original: Function) -> Function:
    clock = hooks.clock
    watched: dict[int, weakref.ref[Any]] = {}

    def is_spent(key: int) -> bool:
        iterator = watched[key]() if key in watched else None
        try:
            return iterator is not None and iterator._num_yielded >= len(iterator)
        except Exception:  # one without a length, or of a torch unlike the known ones
            return False

    clock.is_spent = is_spent

    def forget(key: int, _: object) -> None:
        watched.pop(key, None)
        clock.release(key)

    @functools.wraps(original)
    def fetch(self: Any) -> Any:
        if clock.busy:
            return original(self)
        key = id(self)
        if key not in watched:
            # A `for` loop that is left drops its iterator at once.
            watched[key] = weakref.ref(self, functools.partial(forget, key))
        asked = clock.ask(key)
        if asked is None:
            return original(self)
        try:
            batch = original(self)
        except BaseException:
            clock.got_none(key, asked)
            raise
        clock.got(batch, asked)
        return batch

    name_frame(fetch, Stage.DATALOADER)
    return fetch
