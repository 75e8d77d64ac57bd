"""What runs in a DataLoader's worker, so that its batches are timed there.

It goes there as the loader's `worker_init_fn`, whichever way the worker is started, and calls the
user's own one. What it sees goes to a file, never through the loader's queue.
"""

import multiprocessing.queues
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from multiprocessing.util import Finalize
from typing import Any

from torch.utils.data import _DatasetKind, get_worker_info
from torch.utils.data._utils import fetch as fetchers
from torch.utils.data._utils import worker as worker_loop

from ..interruption import pass_on
from ..schema.loader import Produced
from ..store.batches import DETAILS, PRODUCED, is_over, lines_file, rows_file
from .batch_timer import (
    NEVER,
    BatchTimer,
    Detail,
    Row,
    Spacing,
    attach,
    is_timed,
    timed_fetch,
)
from .own_frames import strip, without_own_frames

FETCHERS = (fetchers._MapDatasetFetcher, fetchers._IterableDatasetFetcher)
"""Classes that get a batch's samples."""
_Packed = tuple[int, int, Row, int]
"""Number, epoch, row, and what serialising took."""
_FLUSH_FIRST = 100
"""Priority among what a worker does at its end; as high as any."""


@dataclass(frozen=True, slots=True)
class WorkerOrder:
    """What a worker is told.

    Attributes:
        directory: of the loader's files.
        loader, epoch: see `schema.loader.Produced`.
        made: batches that those of its number have made in epochs before, about.
    """

    directory: str
    loader: int
    epoch: int
    made: int


class WorkerStart:
    """Called first in a worker; pickled to those that are spawned.

    Args:
        order: see there.
        original: the user's `worker_init_fn`.
        queue: gives the queue that batches go to, once it is there.
        put_back: takes all hooks away that a forked worker has from the main process: in it they
            would see nothing, and cost about 2 µs for each sample that calls them.
    """

    def __init__(
        self,
        order: WorkerOrder,
        original: Callable[[int], object] | None,
        queue: Callable[[], Any],
        put_back: Callable[[], None],
    ) -> None:
        self.order = order
        self.original = original
        self.queue = queue
        self.put_back: Callable[[], None] | None = put_back
        self._owner = os.getpid()

    def __getstate__(self) -> tuple[Any, ...]:
        return self.order, self.original, self.queue()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order, self.original, queue = state
        self.queue = lambda: queue
        self.put_back = None

    def __call__(self, number: int) -> None:
        """Begin in the worker of this number."""
        try:
            if self.put_back is not None and os.getpid() != self._owner:
                self.put_back()
            _Worker(self.order, number, self.queue()).begin()
        except Exception as error:  # then its batches are missing, which the report says
            pass_on(error)
        if self.original is not None:
            self.original(number)


class _Worker:
    """Times the batches of this process."""

    def __init__(self, order: WorkerOrder, number: int, queue: Any) -> None:
        self._order = order
        self._number = number
        self._queue = queue
        join = os.path.join
        made, details = PRODUCED.format(worker=number), DETAILS.format(worker=number)
        self._rows = rows_file(join(order.directory, made), len(fields(Produced)))
        self._details = lines_file(join(order.directory, details))
        self._gaps: set[str] = set()
        self._spacing = Spacing(order.made)
        self._is_over = False
        self._made: deque[tuple[int, int, Row, Detail | None]] = deque()
        self._packed: _Packed | None = None
        self._sending: deque[_Packed] = deque(maxlen=1)
        self._epoch = order.epoch - 1

    def begin(self) -> None:
        """Put the hooks in place."""
        for kind in FETCHERS:
            if not is_timed(kind.fetch):  # a forked one has it from the main process
                kind.fetch = timed_fetch(kind.fetch)  # type: ignore[method-assign]
        create = _DatasetKind.create_fetcher
        _DatasetKind.create_fetcher = staticmethod(  # type: ignore[method-assign]
            lambda *terms: self._met(create(*terms))  # type: ignore[no-untyped-call]
        )
        pickler = multiprocessing.queues._ForkingPickler  # type: ignore[attr-defined]
        multiprocessing.queues._ForkingPickler = _timed_pickler(  # type: ignore[attr-defined]
            pickler, self._pack
        )
        self._queue._send_bytes = self._timed_send(self._queue._send_bytes)
        carrier = vars(worker_loop)["ExceptionWrapper"]
        vars(worker_loop)["ExceptionWrapper"] = _without_own_frames(carrier)
        Finalize(None, self._end, exitpriority=_FLUSH_FIRST)
        self._details.append(
            {
                "loader": self._order.loader,
                "epoch": self._order.epoch,
                "worker": self._number,
                "ready_ns": time.perf_counter_ns(),
            }
        )

    def _met(self, fetcher: Any) -> Any:
        """A new fetcher: the loader makes one for each epoch."""
        try:
            self._meet(fetcher)
        except Exception as error:  # then its batches are missing, which the report says
            pass_on(error)
        return fetcher

    def _meet(self, fetcher: Any) -> None:
        info = get_worker_info()
        if self._is_over or (info is not None and fetcher.dataset is not info.dataset):
            return  # that of a loader within the dataset
        self._epoch += 1
        epoch = self._epoch

        def done(batch: Any, row: Row, detail: Detail | None) -> None:
            if not self._is_over:
                self._made.append((id(batch), epoch, row, detail))

        attach(fetcher, BatchTimer(fetcher.dataset, done, self._spacing, self._tell))

    def _tell(self, gap: str) -> None:
        if gap not in self._gaps:
            self._gaps.add(gap)
            self._details.append({"gap": gap})

    def _pack(self, content: Any, computed_ns: int) -> None:
        """Something was serialised for some queue, in that queue's own thread."""
        if type(content) is not tuple or len(content) != 2:
            return
        number, batch = content
        # A copy at once: the worker may add one meanwhile.
        made = enumerate(list(self._made))
        found = next((i for i, (whose, *_) in made if whose == id(batch)), None)
        if found is None or not isinstance(number, int):
            return
        for _ in range(found):  # those before it never got that far
            self._made.popleft()
        _, epoch, row, detail = self._made.popleft()
        self._packed = number, epoch, row, computed_ns
        if detail is not None:
            place = {"loader": self._order.loader, "epoch": epoch, "batch": number}
            self._details.append(place | detail)

    def _timed_send(self, send: Callable[[Any], None]) -> Callable[[Any], None]:
        def send_bytes(content: Any) -> None:
            if self._packed is not None:
                self._sending.append(self._packed)
                self._packed = None
            began = time.thread_time_ns()
            send(content)
            if self._sending:
                with suppress(Exception):  # likewise
                    packed = self._sending.pop()
                    self._sent(packed, time.thread_time_ns() - began, time.perf_counter_ns())

        return send_bytes

    def _append(self, packed: _Packed, transfer_ns: int, sent_ns: int) -> None:
        number, epoch, row, serialise_ns = packed
        start, end, cpu, waited, collate, samples, detailed = row
        self._rows.append(
            (
                self._order.loader,
                epoch,
                number,
                self._number,
                start,
                end,
                cpu,
                waited,
                collate,
                serialise_ns,
                transfer_ns,
                sent_ns,
                samples,
                detailed,
            )
        )

    def _sent(self, packed: _Packed, transfer_ns: int, sent_ns: int) -> None:
        self._append(packed, transfer_ns, sent_ns)
        self._details.tick(sent_ns)
        if self._rows.tick(sent_ns) and is_over(self._order.directory):
            self._is_over = True
            self._spacing.due = NEVER
            self._made.clear()
            self._end()

    def _end(self) -> None:
        # The loop may have its last batch, and end the worker, before this is told of it.
        if self._sending and not self._is_over:
            self._append(self._sending.pop(), 0, time.perf_counter_ns())
        self._rows.close()
        self._details.close()


def _timed_pickler(pickler: Any, tell: Callable[[Any, int], None]) -> Any:
    """The class with which queues serialise, telling of each object what computing that took."""

    class TimedPickler(pickler):  # type: ignore[misc]
        @classmethod
        def dumps(cls, obj: Any, protocol: int | None = None) -> Any:
            began = time.thread_time_ns()
            content = pickler.dumps(obj, protocol)
            taken = time.thread_time_ns() - began
            with suppress(Exception):  # whatever it is, the batch must come through
                tell(obj, taken)
            return content

    return TimedPickler


def _without_own_frames(wrapper: Any) -> Any:
    """What carries an exception to the main process, as text: without profkit's frames."""

    def wrap(exc_info: Any = None, where: str = "in background") -> Any:
        kind, error, trace = sys.exc_info() if exc_info is None else exc_info
        strip(error)
        return wrapper((kind, error, without_own_frames(trace)), where)

    return wrap
