"""Fixes of DataLoaders: their arguments, and where their batches come from."""

import functools
import inspect
import os
import sys
import time
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data._utils.fetch import _MapDatasetFetcher
from torch.utils.data.dataloader import _SingleProcessDataLoaderIter

from ..interruption import pass_on
from ..schema.fix import ALL_LOADERS, TOGETHER, FixOrder, Knob
from .batched_fetch import BatchedFetch
from .environment import free_memory
from .fix_outcomes import FixOutcomes
from .memory_data import MemoryData, NotSameError
from .replacements import Function, Replacements

_OWN = ("torch.", "profkit.")
_MEMORY_SHARE = 0.3
"""Of the memory that is free, what decoded data may take, of all instances together."""
DECODE_S = 60.0
"""How long decoding the data may take."""
NO_LATER_EPOCH = (
    "only one epoch was seen: if samples change from epoch to epoch, keep them out of memory"
)
_ARGUMENTS = {
    Knob.WORKERS: "num_workers",
    Knob.PREFETCH: "prefetch_factor",
    Knob.PERSISTENT: "persistent_workers",
    Knob.PIN: "pin_memory",
}
_MISSING = object()


class LoaderFixes:
    """The fixes of the loaders that a program makes in one place, or in all.

    Args:
        order: what to apply.
        outcomes: told what came of them.
    """

    def __init__(self, order: FixOrder, outcomes: FixOutcomes) -> None:
        self._order = order
        self._outcomes = outcomes
        self._owner = os.getpid()
        self._place = os.getcwd()
        self._numbered: list[str] = []
        self._sites: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._kept: weakref.WeakKeyDictionary[Any, MemoryData] = weakref.WeakKeyDictionary()
        self._most_bytes: int | None = None
        # By dataset and collate function, which are kept so that no other gets their number.
        self._batched: dict[tuple[int, int], tuple[BatchedFetch, Any, Any]] = {}
        self._notes: list[str] = []
        self.once_s: float | None = None

    def install(self, hooks: Replacements) -> None:
        """Put them in place."""
        settings = self._order.settings
        hooks.replace(DataLoader, "__init__", self._make_loader)
        if Knob.DATA.value in settings:
            hooks.replace(_SingleProcessDataLoaderIter, "__init__", self._begin_single)
        if Knob.FETCH.value in settings:
            hooks.replace(_MapDatasetFetcher, "fetch", self._fetch)

    def number_of(self, loader: Any) -> int | None:
        """A number for where a loader was made."""
        site = self._sites.get(loader)
        if site is None:
            return None
        if site not in self._numbered:
            self._numbered.append(site)
        return self._numbered.index(site)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what was done, and what was not seen by now."""
        kept = list(self._kept.values())
        if not kept or any(one.is_checked_again for one in kept):
            return tuple(self._notes)
        return *self._notes, NO_LATER_EPOCH

    def site_of(self, number: int | None) -> str | None:
        """The place that has a number."""
        return None if number is None else self._numbered[number]

    def _quietly(self, knob: Knob, act: Callable[..., Any], *args: Any) -> None:
        """Do what may fail: then the fix is given up, and says why."""
        try:
            act(*args)
        except NotSameError as reason:
            self._outcomes.fail(knob, str(reason))
        except Exception as error:
            pass_on(error)
            self._outcomes.fail(knob, f"{type(error).__name__}: {error}")
        else:
            self._outcomes.apply(knob)

    def _make_loader(self, original: Function) -> Function:
        known = inspect.signature(original)
        usual = {name: one.default for name, one in known.parameters.items()}

        @functools.wraps(original)
        def init(loader: Any, *args: Any, **kwargs: Any) -> None:
            site = _site(self._place)
            if self._is_meant(site) and os.getpid() == self._owner:
                try:
                    bound = known.bind(loader, *args, **kwargs)
                except TypeError:  # the program's own mistake: the original will say so
                    pass
                else:
                    bound.arguments.update(self._changed({**usual, **bound.arguments}))
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
            for knob, name in _ARGUMENTS.items()
            if knob.value in settings
        }
        if Knob.DATA.value in settings:
            changes["num_workers"] = 0
        if not changes.get("num_workers", given["num_workers"]):
            changes |= {"prefetch_factor": None, "persistent_workers": False, "timeout": 0}
            changes["multiprocessing_context"] = None
        self._compare(given, changes)
        return changes

    def _compare(self, given: dict[str, Any], changes: dict[str, Any]) -> None:
        """Tell which arguments are others than the program's."""
        for knob, name in _ARGUMENTS.items():
            wanted = self._order.settings.get(knob.value, _MISSING)
            if changes.get(name, _MISSING) != wanted or wanted is _MISSING:
                continue  # nobody asked, or there are no workers that have it
            if given[name] == wanted:
                self._outcomes.pass_over(knob, f"{name} is {wanted} already")
            else:
                self._outcomes.apply(knob)

    def _fetch_in_batches(self, loader: Any) -> None:
        if os.getpid() != self._owner or self._outcomes.has_failed(Knob.FETCH):
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
        if self._outcomes.has_failed(Knob.DATA):
            return
        fetcher = iterator._dataset_fetcher
        if not loader._auto_collation:
            raise NotSameError("the loader does not put samples together")
        kept = self._kept.get(loader)
        if kept is None:
            began = time.monotonic()
            room = self._room_bytes()
            kept = MemoryData(loader.dataset, loader.collate_fn, room, began + DECODE_S)
            self._kept[loader] = kept
            taken_s = time.monotonic() - began
            self.once_s = taken_s + (self.once_s or 0.0)
            self._notes.append(
                f"decoding the data once took {taken_s:.1f} s; it takes "
                f"{kept.size_bytes / 1e6:.0f} MB"
            )
        else:
            kept.check_again(loader.dataset)
        fetcher.fetch = kept.fetch

    def _room_bytes(self) -> int:
        """What one more loader may take; evaluation's may be made in the same place."""
        if self._most_bytes is None:
            self._most_bytes = int(_MEMORY_SHARE * free_memory() / TOGETHER)
        return self._most_bytes - sum(kept.size_bytes for kept in self._kept.values())


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
