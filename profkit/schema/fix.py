"""Fixes: changes that profkit can apply to a program by itself, and measure."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

ALL_LOADERS = "*"
"""As the loader of a `FixOrder`: every DataLoader that the program makes, evaluation's too."""

TOGETHER = 2
"""Instances of a program that apply the same fix at the same time: they share the memory."""


class Knob(Enum):
    """What a fix turns; two fixes that turn the same one exclude each other."""

    WORKERS = "workers"
    PREFETCH = "prefetch"
    PERSISTENT = "persistent workers"
    PIN = "pinned memory"
    DATA = "where the data lies"
    FETCH = "how samples are fetched"
    THREADS = "intra-op threads"
    LAYOUT = "memory layout"
    PRECISION = "precision"
    OPTIMIZER = "optimizer implementation"
    GRADIENTS = "how gradients are zeroed"
    COMPILER = "compiler"
    HEAP = "what becomes of freed memory"
    CUDNN = "cuDNN's choice of algorithms"
    TF32 = "TF32"


class Same(Enum):
    """What must stay equal under a fix."""

    BITS = "batches and losses, to the bit"
    BATCHES = "batches to the bit, the first loss and the mean of the first ones to a tolerance"


class Structure(Enum):
    """How a batch holds its tensors."""

    TENSOR = "tensor"
    """It is one."""
    TUPLE = "tuple"
    """Tensors in a tuple or a list."""
    DICT = "dict"
    """Tensors by name."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Fix:
    """One change.

    Attributes:
        name: what reports call it, e.g. `2 workers`.
        knob: what it turns.
        value: to what; None for on.
        helps: when it may help, in words.
        same: what must stay equal.
        tolerance: of the first loss, relative: the weights are the same there; 0 where losses must
            stay equal to the bit.
        drift: of the mean of the losses that are watched, relative: each step goes on from what
            the one before has rounded; 0 likewise.
        recipe: lines to change in the user's script.
        source: of the claim, or of the way that it is applied.
    """

    name: str
    knob: Knob
    value: Any = None
    helps: str = ""
    same: Same = Same.BITS
    tolerance: float = 0.0
    drift: float = 0.0
    recipe: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class FixOrder:
    """What an instance of a program applies.

    Attributes:
        settings: value by the name of the knob.
        loader: where the training's DataLoader is made (`file:line`), or `ALL_LOADERS`; None
            while that is not known: then nothing is changed about loaders.
        watched: first training batches and losses that are noted, so that they can be held
            against those of the program as it is.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    loader: str | None = None
    watched: int = 0


@dataclass(frozen=True, slots=True)
class FixFacts:
    """What became of it in an instance.

    Attributes:
        failures: by the name of the knob: why it could not be applied.
        batches: a checksum of each watched batch.
        losses: each watched loss; None for one that is no number.
        loader: where the training's DataLoader was made.
        once_s: what it took once, and no step pays, such as decoding the data; None where that is
            not known.
        already: knobs that the program has turned by itself, by name.
        structure: of the batch that the first loss was computed of; None where no loader gave it.
        notes: sentences, such as how long the data took to decode.
    """

    failures: dict[str, str]
    batches: tuple[int, ...]
    losses: tuple[float | None, ...]
    loader: str | None
    once_s: float | None = None
    already: tuple[str, ...] = ()
    structure: Structure | None = None
    notes: tuple[str, ...] = ()
