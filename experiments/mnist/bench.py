"""What a command needs to train: the machine, the data, and what is kept."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine, machine_here
from .program import mnist_at
from .results import Results


@dataclass(frozen=True, slots=True)
class Bench:
    """Where trainings run.

    Attributes:
        machine: this one.
        options: of the program: where the data is.
        results: kept ones, and where new ones go.
    """

    machine: Machine
    options: Sequence[str]
    results: Results


@contextmanager
def open_bench(device: str, data_dir: Path | None, kept: Path) -> Iterator[Bench]:
    """A bench, to oneself.

    Args:
        device: `auto`, `cpu` or `cuda`.
        data_dir: of MNIST; None: where profkit finds it.
        kept: directory of results and recordings.

    Raises:
        SystemExit: there is no such device, or no such data.
        InUseError: another command has taken it.
    """
    machine = machine_here(device)
    mnist_at(data_dir)
    options = () if data_dir is None else ("--data-dir", str(data_dir.resolve()))
    results = Results(kept)
    try:
        yield Bench(machine, options, results)
    finally:
        results.close()


def tell(what: str) -> None:
    """On standard error, at once."""
    print(what, file=sys.stderr, flush=True)
