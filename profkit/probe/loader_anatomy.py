"""Costs of batches, seen in the main process: who asked for them, and where they came from.

Where the loop makes its batches itself they are timed here too; what loader workers do is timed
by themselves (`probe.loader_worker`).
"""

import functools
import multiprocessing
import os
import time
import weakref
from _thread import get_ident
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

from torch.utils.data import dataloader
from torch.utils.data._utils import pin_memory as pinning

from ..interruption import pass_on
from ..schema.loader import UNKNOWN, Consumed, IteratorFacts, Produced
from ..store.batches import (
    CONSUMED,
    DETAILS,
    ITERATORS,
    PRODUCED,
    Appender,
    end_all,
    lines_file,
    rows_file,
)
from .batch_timer import BatchTimer, Detail, Row, Spacing, attach, timed_fetch
from .loader_worker import FETCHERS, WorkerOrder, WorkerStart
from .replacements import Function, Replacements

MOST_LOADERS = 256
"""DataLoaders whose batches are recorded; a program may make one in each epoch."""
_MOST_ARRIVALS = 4_096
"""Batches that have come and were not handed out yet, at most."""
_SOURCE = "_profkit_source"
_OWN = "main"
"""In file names, the place of a worker's number."""
_Arrivals = dict[int, tuple[int, int, int]]
"""By number: when a batch had come, and what receiving and pinning it took."""


class LoaderAnatomy:
    """Records what the batches of all DataLoaders cost.

    Args:
        directory: for the files; made for the first loader, in one that is there.
        now: monotonic clock in ns.

    Attributes:
        gaps: what could not be recorded, in words.
    """

    def __init__(self, directory: str, now: Callable[[], int] = time.perf_counter_ns) -> None:
        self.gaps: list[str] = []
        self._directory = directory
        self._now = now
        self._owner = os.getpid()
        self._stopped = False
        self._has_directory = False
        join = os.path.join
        made = join(directory, PRODUCED.format(worker=_OWN))
        # Written between steps, by `flush`.
        self._consumed = rows_file(join(directory, CONSUMED), len(fields(Consumed)))
        self._produced = rows_file(made, len(fields(Produced)))
        self._details = lines_file(join(directory, DETAILS.format(worker=_OWN)))
        self._iterators = lines_file(join(directory, ITERATORS))
        self._loaders: weakref.WeakKeyDictionary[Any, _Loader] = weakref.WeakKeyDictionary()
        self._count = 0
        self._put_back: Callable[[], None] = lambda: None
        # By thread: whether it is pinning, and the batch that it has received last.
        self._pinning: set[int] = set()
        self._received: dict[int, tuple[_Arrivals, int]] = {}

    def install(self, hooks: Replacements) -> None:
        """Put the hooks in place; they go away with the others.

        Args:
            hooks: all that observes this program: loader workers go without.
        """
        self._put_back = hooks.put_back
        single = dataloader._SingleProcessDataLoaderIter
        several = dataloader._MultiProcessingDataLoaderIter
        for kind in FETCHERS:
            hooks.replace(kind, "fetch", timed_fetch)
        hooks.replace(single, "__init__", self._begin_single)
        hooks.replace(several, "__init__", self._begin_workers)
        hooks.replace(several, "_reset", self._begin_anew)
        for iterator in (single, several):
            hooks.replace(iterator, "_next_data", self._ask)
        hooks.replace(pinning, "pin_memory", self._pin)

    def number_of(self, loader: Any) -> int | None:
        """Under which number a loader's batches are recorded; None where they are not."""
        try:
            known = self._loaders.get(loader)
        except TypeError:  # one that cannot be a key
            return None
        return None if known is None else known.number

    def flush(self) -> None:
        """Write what waits to be written."""
        for file in self._files:
            file.flush()

    def stop(self) -> None:
        """Record nothing from now on."""
        self._stopped = True
        for file in self._files:
            file.close()
        if self._has_directory and os.getpid() == self._owner:
            end_all(self._directory)

    @property
    def _files(self) -> tuple[Appender, ...]:
        return self._consumed, self._iterators, self._produced, self._details

    # Iterators --------------------------------------------------------------------------------

    def _begin_single(self, original: Function) -> Function:
        @functools.wraps(original)
        def init(iterator: Any, loader: Any) -> None:
            began = self._now()
            self._quietly(setattr, iterator, _SOURCE, None)
            original(iterator, loader)
            self._quietly(self._met_single, iterator, loader, began)

        return init

    def _met_single(self, iterator: Any, loader: Any, began_ns: int) -> None:
        known = self._meet(loader)
        if known is None:
            return
        source = _Source(known, self._loaders)
        self._tell(iterator, source, None, began_ns)

        def done(batch: Any, row: Row, detail: Detail | None) -> None:
            if self._stopped:
                return
            start, end, cpu, waited, collate, samples, detailed = row
            place = (source.number, source.epoch, source.made)
            times = (start, end, cpu, waited, collate, 0, 0, end)
            self._produced.append((*place, UNKNOWN, *times, samples, detailed))
            if detail is not None:
                at = dict(zip(("loader", "epoch", "batch"), place, strict=True))
                self._details.append(at | detail)
            self._arrived(source.arrivals, source.made, end, 0)
            source.made += 1

        timer = BatchTimer(iterator._dataset, done, known.spacing, self._gap, self._now)
        attach(iterator._dataset_fetcher, timer)
        setattr(iterator, _SOURCE, source)

    def _begin_workers(self, original: Function) -> Function:
        @functools.wraps(original)
        def init(iterator: Any, loader: Any) -> None:
            began = self._now()
            self._quietly(setattr, iterator, _SOURCE, None)
            order = self._quietly(self._order, iterator, loader)
            if order is None:
                original(iterator, loader)
                return
            try:
                original(iterator, loader)
            finally:
                loader.worker_init_fn = order.original
            self._quietly(self._met_workers, iterator, loader, began)

        return init

    def _order(self, iterator: Any, loader: Any) -> WorkerStart | None:
        """Have the workers that are about to start time their batches."""
        known = self._meet(loader)
        if known is None:
            return None
        made = known.handed // max(1, loader.num_workers)
        order = WorkerOrder(self._directory, known.number, known.epochs, made)
        this: Callable[[], Any] = weakref.ref(iterator)
        queue = lambda: this()._worker_result_queue  # noqa: E731
        start = WorkerStart(order, loader.worker_init_fn, queue, self._put_back)
        loader.worker_init_fn = start
        setattr(iterator, _SOURCE, _Source(known, self._loaders))
        return start

    def _met_workers(self, iterator: Any, loader: Any, began_ns: int) -> None:
        iterator._worker_init_fn = loader.worker_init_fn
        source = getattr(iterator, _SOURCE)
        self._tell(iterator, source, _method_of(loader), began_ns)
        self._watch_queue(iterator._worker_result_queue, source.arrivals)

    def _begin_anew(self, original: Function) -> Function:
        @functools.wraps(original)
        def reset(iterator: Any, loader: Any, first_iter: bool = False) -> None:
            source = None if first_iter else self._source_of(iterator)
            if source is not None:
                began = self._now()
                self._quietly(self._begin_epoch, source, loader)
            original(iterator, loader, first_iter)
            if source is not None:
                self._quietly(self._tell, iterator, source, _method_of(loader), began)

        return reset

    def _begin_epoch(self, source: "_Source", loader: Any) -> None:
        known = self._meet(loader)
        source.epoch = source.epoch + 1 if known is None else known.begin_epoch()
        source.arrivals.clear()

    def _meet(self, loader: Any) -> "_Loader | None":
        if self._stopped or os.getpid() != self._owner:
            return None
        known = self._loaders.get(loader)
        if known is None and self._count < MOST_LOADERS:
            self._make_directory()
            known = self._loaders[loader] = _Loader(self._count)
            self._count += 1
        elif known is None:
            self._gap(
                f"what batches cost their producer was recorded for the first {MOST_LOADERS} "
                "DataLoaders only: the program made more"
            )
        return known

    def _make_directory(self) -> None:
        if not self._has_directory:
            with suppress(FileExistsError):
                os.mkdir(self._directory)
            self._has_directory = True

    def _source_of(self, iterator: Any) -> "_Source | None":
        found: _Source | None = iterator.__dict__.get(_SOURCE, _UNSEEN)
        if found is None or found.seen_by is self._loaders:
            return found
        if not self._stopped:
            self._gap(
                "a DataLoader was being iterated, or had its workers, before the observation "
                "began: what those batches cost their producer was not recorded"
            )
        return None

    def _tell(self, iterator: Any, source: "_Source", method: str | None, began_ns: int) -> None:
        workers = iterator._num_workers
        facts = IteratorFacts(
            loader=source.number,
            epoch=source.epoch,
            workers=workers,
            prefetch=iterator._prefetch_factor if workers else 0,
            in_order=_in_order(iterator),
            pins=bool(iterator._pin_memory),
            persistent=bool(iterator._persistent_workers),
            method=method,
            began_ns=began_ns,
            ready_ns=self._now(),
        )
        self._iterators.append(asdict(facts))

    # Batches ----------------------------------------------------------------------------------

    def _ask(self, original: Function) -> Function:
        now = self._now

        @functools.wraps(original)
        def next_data(iterator: Any) -> Any:
            source = self._source_of(iterator)
            if source is None or self._stopped:
                return original(iterator)
            asked = now()
            batch = original(iterator)
            got = now()
            source.loader.handed += 1
            number = source.last(iterator)
            times = source.arrivals.pop(number, (UNKNOWN, 0, 0))
            self._consumed.append((source.number, source.epoch, number, asked, got, *times))
            return batch

        return next_data

    def _watch_queue(self, queue: Any, arrivals: _Arrivals) -> None:
        """Time what it takes to receive a batch, once it is there."""
        receive, get, now = queue._recv_bytes, type(queue).get, self._now
        this = weakref.ref(queue)  # else it would keep itself, and its pipes, beyond its iterator
        began_ns = 0

        def recv_bytes(*terms: Any) -> Any:
            nonlocal began_ns
            began_ns = now()
            return receive(*terms)

        def timed_get(*args: Any, **kwargs: Any) -> Any:
            found = get(this(), *args, **kwargs)
            is_batch = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], int)
            if is_batch and not self._stopped:
                ended = now()
                self._arrived(arrivals, found[0], ended, ended - began_ns)
            return found

        queue._recv_bytes = recv_bytes
        queue.get = timed_get

    def _arrived(self, arrivals: _Arrivals, number: int, when_ns: int, receive_ns: int) -> None:
        if len(arrivals) >= _MOST_ARRIVALS:
            arrivals.clear()
        arrivals[number] = (when_ns, receive_ns, 0)
        self._received[get_ident()] = (arrivals, number)

    def _pin(self, original: Function) -> Function:
        """Copying to pinned memory: the function calls itself for all that a batch holds."""

        @functools.wraps(original)
        def pin_memory(data: Any, device: Any = None) -> Any:
            thread = get_ident()
            if self._stopped or thread in self._pinning:
                return original(data, device)
            self._pinning.add(thread)
            began = self._now()
            try:
                return original(data, device)
            finally:
                taken = self._now() - began
                self._pinning.discard(thread)
                arrivals, number = self._received.pop(thread, ({}, 0))
                if number in arrivals:
                    when, receive, _ = arrivals[number]
                    arrivals[number] = (when, receive, taken)

        return pin_memory

    def _quietly(self, act: Callable[..., Any], *args: Any) -> Any:
        try:
            return act(*args)
        except Exception as error:  # a torch unlike the known ones must not stop a training
            pass_on(error)
            self._gap(f"what batches cost their producer was not recorded: {error!r}")
            return None

    def _gap(self, gap: str) -> None:
        if gap not in self.gaps:
            self.gaps.append(gap)


class _Loader:
    """A DataLoader that was iterated.

    Attributes:
        epochs: how often.
        handed: batches that it has handed out.
        spacing: of those whose parts are timed, where the loop makes them.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.epochs = 0
        self.handed = 0
        self.spacing = Spacing()

    def begin_epoch(self) -> int:
        """The number of an epoch that begins."""
        self.epochs += 1
        return self.epochs - 1


class _Source:
    """An iterator, and which of its batches have come.

    Args:
        loader: that it is of; an epoch of it begins.
        seen_by: what tells one observation from another.
    """

    def __init__(self, loader: _Loader, seen_by: object) -> None:
        self.seen_by = seen_by
        self.loader = loader
        self.number = loader.number
        self.epoch = loader.begin_epoch()
        self.made = 0
        self.arrivals: _Arrivals = {}

    def last(self, iterator: Any) -> int:
        """The number of the batch that was handed out last, if that can be told."""
        if not iterator._num_workers:
            return self.made - 1
        return int(iterator._rcvd_idx) - 1 if _in_order(iterator) else UNKNOWN


_UNSEEN: Any = _Source(_Loader(UNKNOWN), None)


def _in_order(iterator: Any) -> bool:
    return bool(getattr(iterator, "_in_order", True))


def _method_of(loader: Any) -> str:
    """How a loader has started its workers."""
    context = loader.multiprocessing_context or multiprocessing
    return str(context.get_start_method())
