"""Where the traced passes of a run lie: as their probes wrote them, below the run directory."""

from pathlib import Path

import msgspec

from ..errors import RunError

TORCH = Path("passes", "torch")
STACKS = Path("passes", "stacks", "stacks.txt")
LINES = Path("passes", "lines")
TENSORBOARD = "tensorboard"
"""Beside the run directories: one folder a run, as TensorBoard wants it."""


def read_stacks(run: Path) -> str:
    """py-spy's raw text.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return (run / STACKS).read_text("utf-8", "replace")
    except OSError as error:
        raise RunError(f"cannot read {STACKS.name}: {error.strerror or error}") from error


def read_lines(run: Path) -> list[object]:
    """The decoded figures of each process whose lines were timed; damaged files are left out."""
    found: list[object] = []
    for path in sorted((run / LINES).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes()))
        except (OSError, msgspec.DecodeError):  # a worker that was killed while it wrote
            continue
    return found
