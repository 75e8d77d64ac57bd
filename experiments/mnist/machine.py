"""The machine that trainings run on."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

import profkit

from .program import chosen_device


@dataclass(frozen=True, slots=True)
class Machine:
    """Where trainings run.

    Attributes:
        hardware: processor, memory and device.
        versions: of what they run with, without that of this repository.
        commit: of this repository.
        device: `cpu` or `cuda`.
    """

    hardware: str
    versions: str
    commit: str
    device: str

    @property
    def place(self) -> str:
        """What a training must have in common with another to stand beside it."""
        return f"{self.hardware}; {self.device}"

    @property
    def short_name(self) -> str:
        """Of the device, for a file: `cpu`, or such as `h200`."""
        if self.device == "cpu":
            return self.device
        return re.sub(r"\W+", "-", torch.cuda.get_device_name().lower()).removeprefix("nvidia-")


def machine_here(device: str) -> Machine:
    """This machine.

    Args:
        device: `auto`, `cpu` or `cuda`.

    Raises:
        SystemExit: there is no such device.
    """
    chosen = chosen_device(device).type
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch, "run")  # of a run that does nothing, but says where it was
        with profkit.record(run) as recorder:
            for _ in recorder.steps(range(2)):
                pass
        return machine_of(profkit.describe_machine(profkit.report(run).runs[0]), chosen)


def machine_of(described: Mapping[str, str], device: str) -> Machine:
    """The machine that `profkit.describe_machine` describes."""
    parts = described["versions"].split(", ")
    commit = next((one for one in parts if one.startswith("commit ")), "commit unknown")
    rest = ", ".join(one for one in parts if not re.match("(commit|profkit) ", one))
    return Machine(described["hardware"], rest, commit.removeprefix("commit "), device)
