"""What instances of a program that are measured block by block say and do."""

from dataclasses import dataclass

from .fix import FixFacts
from .run import Environment, LoaderFacts
from .steps import StepTable


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """An instance that is warm and waits for its first block.

    Attributes:
        environment: as it is in that process.
        device: type of device that the model is on, None where no model was called.
        loader: of the batches that it trains on; None where no loader was seen.
        step_ns: median of its last warm-up steps.
        modules: files of the modules that it has loaded from outside the installed packages.
        fixes: what became of those that it was started with; None where it was not asked.
    """

    environment: Environment
    device: str | None
    loader: LoaderFacts | None
    step_ns: int
    modules: tuple[str, ...]
    fixes: FixFacts | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Steps that one instance made in one go.

    Attributes:
        steps: those that do not count included.
        drain_ns: what the device still had to do after the last one.
        workers: loader workers that make its batches.
    """

    steps: StepTable
    drain_ns: int
    workers: int = 0
