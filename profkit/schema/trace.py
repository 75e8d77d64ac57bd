"""A Chrome trace as columns, and the names of the ranges that profkit reads and writes in it."""

from dataclasses import dataclass

import numpy as np

from .stage import Stage
from .steps import BoolArray, Int64Array

STEP_PREFIX = "ProfilerStep#"
"""A step, named as `torch.profiler` names its own."""
STAGE_PREFIX = "profkit:"
"""A stage range: `profkit:<stage>`."""
LOADER_END = "profkit:loader_end"
"""Within a step range whose request gave no batch: that range is no step."""
LOADER_PREFIX = "enumerate(DataLoader)#"
"""The range that torch's own DataLoader opens around each of its batches."""

OPERATOR = "cpu_op"
ANNOTATION = "user_annotation"
RUNTIME = ("cuda_runtime", "cuda_driver")
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
"""Categories of what runs on a device."""


def stage_range(stage: Stage) -> str:
    """The name of a stage's ranges in a trace."""
    return STAGE_PREFIX + stage.value


@dataclass(frozen=True, slots=True, eq=False)
class TraceTable:
    """The complete events (`ph` X) of a trace, in file order; text is kept once and indexed.

    Attributes:
        names: each event name once.
        name: (n,) int64, index in `names`.
        categories: each category once; empty text for an event without one.
        category: (n,) int64, index in `categories`.
        start_ns: (n,) int64, on the trace's clock; the base cancels out in differences.
        duration_ns: (n,) int64.
        process: (n,) int64, process id; the device index for what runs on a device.
        thread: (n,) int64, thread id; the stream for what runs on a device.
        stacks: each Python call stack once, innermost frame first, frames divided by `;`.
        stack: (n,) int64, index in `stacks`, -1 where the event has none.
    """

    names: tuple[str, ...]
    name: Int64Array
    categories: tuple[str, ...]
    category: Int64Array
    start_ns: Int64Array
    duration_ns: Int64Array
    process: Int64Array
    thread: Int64Array
    stacks: tuple[str, ...]
    stack: Int64Array

    def __len__(self) -> int:
        return int(self.start_ns.shape[0])

    @property
    def end_ns(self) -> Int64Array:
        """(n,) int64, half-open end of each event."""
        return self.start_ns + self.duration_ns

    def has_category(self, *categories: str) -> BoolArray:
        """(n,) bool, whether the event is of one of these categories."""
        hits = np.array([category in categories for category in self.categories], np.bool_)
        return _looked_up(hits, self.category)

    def is_named(self, *names: str) -> BoolArray:
        """(n,) bool, whether the event has one of these names."""
        hits = np.array([name in names for name in self.names], np.bool_)
        return _looked_up(hits, self.name)

    def is_named_from(self, prefix: str) -> BoolArray:
        """(n,) bool, whether the name of the event begins like this."""
        hits = np.array([name.startswith(prefix) for name in self.names], np.bool_)
        return _looked_up(hits, self.name)


def _looked_up(hits: BoolArray, codes: Int64Array) -> BoolArray:
    # An empty trace has no name either, and an empty array cannot be indexed by nothing.
    return hits[codes] if hits.size else np.zeros(codes.shape, np.bool_)
