"""Which loops run: a rule, not a choice.

- Every place alone, at 0 workers: spinning 0.1, 2 and 20 ms; sleeping and I/O 5 ms.
- The data with 1, 2 and 4 workers: each kind of cost at 5 ms; sleeping 20 ms with 4, which hides it
  or not, as it happens.
- Combinations: costs hidden behind workers, two costs that compete, all places, short epochs.
- Balanced loops: every share at least two points below its limit.
- Contended loops: workers that spin beside a model of two threads.
- Programs like people's: pictures, texts, a slow disk, a GPT block.
"""

from dataclasses import dataclass

PLACES = ("data", "transfer", "forward", "backward", "optimizer", "logging")
SPUN_MS = (0.1, 2, 20)
OTHER_KINDS_MS = 5
WORKERS = (1, 2, 4)
_BALANCED = (
    "transfer:spin:1.5 forward:spin:4.2 backward:spin:4.2 optimizer:spin:5.2 logging:spin:3.2"
)
_BALANCED_BESIDE_WORKERS = (
    "transfer:spin:4.5 forward:spin:12.9 backward:spin:12.9 optimizer:spin:15.6 logging:spin:9.6"
)
"""Longer steps: to receive a batch from a worker takes one or two ms, were it ready or not."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One loop.

    Attributes:
        name: what reports call it; unique.
        program: module that is run.
        costs: `place:kind:ms`, as the program takes them.
        workers, threads: loader workers and intra-op threads.
        options: further ones of the program.
        is_balanced: built so that no bottleneck may be claimed.
        has_reference: whether a run without the workers' load tells if it is contended.
    """

    name: str
    program: str = "experiments.truth.loop"
    costs: tuple[str, ...] = ()
    workers: int = 0
    threads: int = 1
    options: tuple[str, ...] = ()
    is_balanced: bool = False
    has_reference: bool = False

    @property
    def arguments(self) -> list[str]:
        """What the program is called with, but for its files and its duration."""
        costs = [part for cost in self.costs for part in ("--cost", cost)]
        counts = ["--workers", str(self.workers), "--threads", str(self.threads)]
        return [*costs, *counts, *self.options]

    @property
    def places(self) -> frozenset[str]:
        """Where costs are injected."""
        return frozenset(cost.partition(":")[0] for cost in self.costs)


def _beside(workers: int) -> str:
    return f", {workers} worker{'s'[: workers - 1]}" if workers else ""


def _alone(place: str, kind: str, ms: float, workers: int = 0) -> Setting:
    return Setting(
        f"{place} {kind} {ms:g} ms{_beside(workers)}",
        costs=(f"{place}:{kind}:{ms:g}",),
        workers=workers,
        has_reference=workers > 0 and kind != "sleep",
    )


def _mixed(name: str, costs: str, workers: int = 0, **facts: object) -> Setting:
    return Setting(name, costs=tuple(costs.split()), workers=workers, **facts)  # type: ignore[arg-type]


def _busy(workers: int) -> Setting:
    return Setting(
        f"contended: {workers} workers spin 10 ms beside 2 threads",
        costs=("data:spin:10",),
        workers=workers,
        threads=2,
        options=("--width", "512", "--batch", "64"),
        has_reference=True,
    )


def _program(name: str, workers: int) -> Setting:
    return Setting(
        f"{name}{_beside(workers)}",
        program="experiments.truth.realistic",
        workers=workers,
        options=("--program", name),
    )


SETTINGS: tuple[Setting, ...] = (
    *(_alone(place, "spin", ms) for place in PLACES for ms in SPUN_MS),
    *(_alone(place, kind, OTHER_KINDS_MS) for place in PLACES for kind in ("sleep", "io")),
    *(
        _alone("data", kind, OTHER_KINDS_MS, workers)
        for workers in WORKERS
        for kind in ("spin", "sleep", "io")
    ),
    _alone("data", "sleep", 20, 4),
    _mixed(
        "hidden: data sleep 10 ms, forward 40 ms, 2 workers",
        "data:sleep:10 forward:spin:40",
        2,
    ),
    _mixed(
        "hidden: data spin 2 ms, backward sleep 10 ms, 1 worker", "data:spin:2 backward:sleep:10", 1
    ),
    _mixed(
        "half hidden: data sleep 10 ms, forward 5 ms, 1 worker", "data:sleep:10 forward:spin:5", 1
    ),
    _mixed("logging 2 ms beside optimizer 5 ms", "logging:sleep:2 optimizer:spin:5"),
    _mixed("transfer 1 ms, forward 5 ms", "transfer:spin:1 forward:spin:5"),
    _mixed(
        "every place, kinds in turn",
        "data:io:2 transfer:sleep:2 forward:spin:2 backward:sleep:2 optimizer:io:2 logging:spin:2",
    ),
    _mixed(
        "epochs of 40 steps, data sleep 2 ms, forward 5 ms, 1 worker",
        "data:sleep:2 forward:spin:5",
        1,
        options=("--epoch", "40"),
    ),
    _mixed("balanced", f"data:spin:0.3 {_BALANCED}", is_balanced=True),
    _mixed(
        "balanced, 1 worker sleeps 20 ms",
        f"data:sleep:20 {_BALANCED_BESIDE_WORKERS}",
        1,
        is_balanced=True,
    ),
    _mixed(
        "the model alone: forward 4 ms, backward 5 ms",
        "forward:spin:4 backward:spin:5",
        is_balanced=True,
    ),
    _busy(2),
    _busy(4),
    _program("images", 0),
    _program("images", 2),
    _program("text", 1),
    _program("slow disk", 2),
    _program("gpt", 0),
)

QUICK = (
    "data spin 2 ms",
    "logging spin 2 ms",
    "every place, kinds in turn",
    "hidden: data sleep 10 ms, forward 40 ms, 2 workers",
    "balanced",
)
"""A few of them, to see that everything works."""
