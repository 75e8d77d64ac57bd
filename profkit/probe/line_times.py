"""Times single lines with line_profiler, in this process and in loader workers.

It slows what it looks at (1.9 times on MNIST's `__getitem__`), so its times say which line is
costly and never how long a step takes. Figures are kept as JSON, one file a process:

    {"schema": 1, "process": "main" or "worker", "gap": null or words, "event_ns": number,
     "functions": [{"name", "file", "first_line", "stage": null or name,
                    "lines": [{"line", "hits", "time_ns", "text"}]}],
     "calls": [{"file", "first_line", "line", "callee_file", "callee_first_line", "count"}],
     "without_lines": [names of compiled callables that were asked for]}

`calls` is which timed line called which timed function, watched on the first calls only: with it
the analysis can take a callee's time out of the line that called it. So can `event_ns`, what
one traced line costs beyond what is measured for it: that lands on the caller's line.
"""

import contextlib
import functools
import json
import linecache
import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ProbeError
from ..schema.stage import Stage
from .call_watch import CallWatch, CodeKey
from .line_targets import Function, loader_functions, python_function

_CALIBRATION_LINES = 1000
_CALIBRATIONS = 5
_CONTINUED_LINES = 6
_TEXT_WIDTH = 120

Targets = Sequence[Function] | Mapping[Stage, Sequence[Function]]


@contextmanager
def time_lines(functions: Targets, out: Path) -> Iterator[None]:
    """Times the lines of some functions while the body runs, and writes the figures to `out`.

    Args:
        functions: what to time, alone or by stage; methods, callable objects and decorated
            functions are seen through, see `line_targets`. Compiled ones are skipped and named.
        out: JSON file, replaced.

    Raises:
        ProbeError: line_profiler is missing or cannot start (before the body), or the figures
            cannot be written (after it). Never in place of an exception of the body.
    Calls made in other threads are not seen.
    """
    with _as_probe_error("line_profiler cannot start here"):
        timer = _LineTimer(functions, "main")
        timer.start()
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            timer.stop()
            timer.write(out)
        raise
    with _as_probe_error("the line times are lost"):
        timer.stop()
        timer.write(out)


def worker_line_timer(
    out_dir: Path,
    *,
    collate_fn: Function | None = None,
    worker_init_fn: Callable[[int], object] | None = None,
) -> "WorkerLineTimer":
    """A `worker_init_fn` that times the lines that make batches, in every worker of a loader.

    The functions are chosen in the worker from its own copy of the dataset, so nothing but the
    arguments here is sent to it. Figures go to `out_dir/lines-<pid>.json` when the worker ends,
    which persistent workers do only when their iterator is gone: delete the loader, then read.

    Args:
        out_dir: existing directory.
        collate_fn: the loader's; None stands for torch's own.
        worker_init_fn: the loader's own, called first.
    """
    return WorkerLineTimer(str(out_dir), collate_fn, worker_init_fn)


@dataclass(frozen=True, slots=True)
class WorkerLineTimer:
    """See `worker_line_timer`; spawn pickles it as long as its arguments can be pickled."""

    out_dir: str
    collate_fn: Function | None
    worker_init_fn: Callable[[int], object] | None

    def __call__(self, worker_id: int) -> None:
        """Start timing in this worker; DataLoader calls it there."""
        if self.worker_init_fn is not None:
            self.worker_init_fn(worker_id)
        out = Path(self.out_dir) / f"lines-{os.getpid()}.json"
        # Whatever fails here must not end the worker, and the training with it.
        try:
            self._start(out)
        except Exception as error:
            with contextlib.suppress(Exception):
                _write(out, _document("worker", gap=f"a worker could not time lines: {error}"))

    def _start(self, out: Path) -> None:
        from multiprocessing.util import Finalize

        from torch.utils.data import get_worker_info

        info = get_worker_info()
        if info is None:
            raise ProbeError("called outside a loader worker")
        chosen = loader_functions(info.dataset, self.collate_fn)
        timer = _LineTimer({Stage.DATALOADER: chosen}, "worker")
        timer.start()
        # Forked children leave through os._exit, which runs multiprocessing's finalizers but
        # not atexit's; 100 is the priority of what must come before the queues close.
        Finalize(None, functools.partial(_finish, timer, out), exitpriority=100)


@contextmanager
def _as_probe_error(what: str) -> Iterator[None]:
    """Whatever goes wrong in a probe is a ProbeError, which callers turn into a gap."""
    try:
        yield
    except ProbeError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())
        raise ProbeError(f"{what} ({type(error).__name__}: {words})") from error


def _finish(timer: "_LineTimer", out: Path) -> None:
    with contextlib.suppress(Exception):
        timer.stop()
        timer.write(out)


class _LineTimer:
    """line_profiler over chosen functions, with the stage of each and who called whom."""

    def __init__(self, targets: Targets, process: str) -> None:
        self._process = process
        by_stage = targets if isinstance(targets, Mapping) else {None: targets}
        self._stages: dict[CodeKey, str | None] = {}
        self._without_lines: list[str] = []
        try:
            from line_profiler import LineProfiler
        except ImportError as error:
            message = f"line_profiler cannot be imported ({error}): pip install line_profiler"
            raise ProbeError(message) from error
        self._profiler: Any = LineProfiler()
        for stage, functions in by_stage.items():
            for target in functions:
                self._add(target, stage)
        self._watch = CallWatch(frozenset(self._stages))
        self._event_ns = 0

    def _add(self, target: Function, stage: Stage | None) -> None:
        function = python_function(target)
        if function is None:
            self._without_lines.append(_name(target))
            return
        key = (function.__code__.co_filename, function.__code__.co_firstlineno)
        if key not in self._stages:
            self._stages[key] = None if stage is None else stage.value
            self._profiler.add_function(function)

    def start(self) -> None:
        self._profiler.enable_by_count()
        self._watch.start()

    def stop(self) -> None:
        self._watch.stop()
        self._profiler.disable_by_count()
        # Afterwards, where the machine is as busy as it was.
        self._event_ns = _event_ns(type(self._profiler))

    def write(self, out: Path) -> None:
        stats = self._profiler.get_stats()
        functions = []
        for (file, first_line, name), timings in stats.timings.items():
            lines = [
                {
                    "line": line,
                    "hits": hits,
                    "time_ns": round(time * stats.unit * 1e9),
                    "text": _source_text(file, line),
                }
                for line, hits, time in timings
            ]
            functions.append(
                {
                    "name": name,
                    "file": file,
                    "first_line": first_line,
                    "stage": self._stages.get((file, first_line)),
                    "lines": lines,
                }
            )
        document = _document(
            self._process,
            event_ns=self._event_ns,
            functions=functions,
            calls=self._watch.calls(),
            without_lines=sorted(set(self._without_lines)),
        )
        _write(out, document)


def _event_ns(profiler_class: Any) -> int:
    """What tracing one line costs its caller, in ns: the time that the line itself does not get."""

    def callee() -> None:
        for _ in range(_CALIBRATION_LINES):
            pass

    def caller() -> None:
        callee()

    costs: list[float] = []
    for _ in range(_CALIBRATIONS):
        profiler = profiler_class(caller, callee)
        profiler.runcall(caller)
        stats = profiler.get_stats()
        hits = within = outside = 0
        for (_, first_line, _), timings in stats.timings.items():
            if first_line == callee.__code__.co_firstlineno:
                hits += sum(hit for _, hit, _ in timings)
                within += sum(time for _, _, time in timings)
            else:
                outside += sum(time for _, _, time in timings)
        costs.append((outside - within) * stats.unit * 1e9 / hits if hits else 0.0)
    # The median: any one of them may have been put aside by the operating system.
    return max(0, round(statistics.median(costs)))


def _document(
    process: str,
    *,
    gap: str | None = None,
    event_ns: int = 0,
    functions: Sequence[object] = (),
    calls: Sequence[object] = (),
    without_lines: Sequence[str] = (),
) -> dict[str, object]:
    return {
        "schema": 1,
        "process": process,
        "gap": gap,
        "event_ns": event_ns,
        "functions": functions,
        "calls": calls,
        "without_lines": without_lines,
    }


def _source_text(file: str, line: int) -> str:
    """The line, and the next ones as long as its brackets are open: `func(` alone says nothing."""
    text = linecache.getline(file, line).strip()
    for following in range(line + 1, line + _CONTINUED_LINES):
        opened = sum(map(text.count, "([{")) - sum(map(text.count, ")]}"))
        if opened <= 0:
            break
        text += " " + linecache.getline(file, following).strip()
    return text if len(text) <= _TEXT_WIDTH else text[: _TEXT_WIDTH - 1] + "…"


def _write(out: Path, document: dict[str, object]) -> None:
    try:
        out.write_text(json.dumps(document, indent=1), encoding="utf-8")
    except OSError as error:
        raise ProbeError(f"the line times cannot be written ({error.strerror})") from error


def _name(target: object) -> str:
    named = target if hasattr(target, "__qualname__") else type(target)
    module = getattr(named, "__module__", None) or "builtins"
    return f"{module}.{getattr(named, '__qualname__', '?')}"
