"""Constants of the fastest rungs, chosen on training images that are left out of training."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..measured import head_of_here, mean_interval, save, spread
from .bench import Bench
from .findings import mean_ratio
from .ladder import Rung
from .ladder_report import gain_interval, mean_and_deviation, times_with_interval
from .measuring import timed
from .recipe import Precision
from .results import Result
from .task import Task

SERIES = "choices"
FIRST_SEED = 1000
"""Seeds of choices begin here; those that are reported begin at 0."""


def _each(path: str, *values: Any) -> tuple[dict[str, Any], ...]:
    return tuple({path: value} for value in values)


CHOICES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "smoothed": (
        *_each("optimizer.lr", 0.005, 0.02),
        *_each("schedule.rising", 0.2),
        *_each("label_smoothing", 0.0, 0.2),
        *_each("data.batch_size", 128, 384),
        *_each("data.side", 22, 28),
        *_each("network.widths", (16, 32), (32, 64)),
        *_each("network.hidden", (), (128,)),
        {
            "network.widths": (16, 48),
            "network.hidden": (128,),
            "optimizer.lr": 0.02,
            "schedule.rising": 0.2,
        },
        *_each("network.batch_norm", True),
        *_each("network.is_whitened", True),
        *_each("data.augment.shift", 0.04),
        *_each("optimizer.is_fused", False),
        *_each("compute.keeps_freed_memory", False),
    ),
    "reshaped": _each("stop.steps", 160, 180),
    "mlp_smoothed": (
        *_each("optimizer.lr", 0.005, 0.02),
        *_each("schedule.rising", 0.2),
        *_each("label_smoothing", 0.0, 0.2),
        *_each("data.batch_size", 256, 512),
        *_each("data.side", 24),
        *_each("network.hidden", (128,), (384,)),
        *_each("network.batch_norm", True),
        *_each("optimizer.is_fused", False),
        *_each("compute.keeps_freed_memory", False),
        *_each("stop.steps", 90, 100, 110, 120),
    ),
}
"""By rung, what else its constants might have been."""
UNDONE: Mapping[str, tuple[dict[str, Any], ...]] = {
    "ends_early": (
        *_each("compute.channels_last", False),
        *_each("compute.precision", Precision.FP32),
        *_each("compute.keeps_freed_memory", False),
        *_each("optimizer.is_fused", False),
        *_each("data.side", 28),
        {"network.strides": (), "network.pools": (True, True)},
        *_each("label_smoothing", 0.0),
        {
            "network.widths": (24, 32),
            "network.hidden": (256,),
            "optimizer.lr": 0.01,
            "schedule.rising": 0.3,
        },
    ),
    "mlp_ends_early": (
        *_each("network.hidden", (256, 128)),
        *_each("data.side", 28),
        *_each("optimizer.is_fused", False),
        *_each("compute.keeps_freed_memory", False),
        *_each("compute.precision", Precision.FP32),
        *_each("data.batch_size", 256),
        *_each("label_smoothing", 0.0),
    ),
}
"""By the fastest rung of a ladder, what undoes one technique of it and leaves the others.

A technique stays a rung where undoing it is shown to lose time or accuracy.
"""


@dataclass(frozen=True, slots=True)
class Tried:
    """A recipe beside a rung's own.

    Attributes:
        rung: its name.
        changes: what differs, as words; empty for the rung's own.
        accuracies: on the images that were left out, 0 to 1, one a seed.
        seconds: on the recipe's clock, one a seed.
    """

    rung: str
    changes: str
    accuracies: tuple[float, ...]
    seconds: tuple[float, ...]


def try_all(
    rungs: Sequence[Rung],
    choices: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: int,
    bench: Bench,
) -> list[Tried]:
    """Train each rung as it is, and with each other value, in rounds whose order is drawn.

    Args:
        rungs: whose constants are to be chosen.
        choices: by rung's name, changes of its recipe.
        seeds: of each.
        bench: where.
    """
    asked: list[tuple[Rung, Mapping[str, Any]]] = [
        (rung, changes) for rung in rungs for changes in ({}, *choices.get(rung.name, ()))
    ]
    found: list[list[Result]] = [[] for _ in asked]
    order = list(range(len(asked)))
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        random.Random(seed).shuffle(order)
        for row in order:
            rung, changes = asked[row]
            task = Task(rung, seed, changes=changes, is_validated=True)
            found[row].append(timed(task, SERIES, bench))
    return [
        Tried(
            rung.name,
            ", ".join(
                f"{path}={getattr(value, 'value', value)!r}" for path, value in changes.items()
            ),
            tuple(one.training.accuracy for one in each),
            tuple(one.training.seconds for one in each),
        )
        for (rung, changes), each in zip(asked, found, strict=True)
    ]


def report_choices(
    title: str,
    rungs: Sequence[Rung],
    choices: Mapping[str, Sequence[Mapping[str, Any]]],
    seeds: int,
    bench: Bench,
    output: Path,
    command: str,
) -> None:
    """Try all values, and write the report.

    Args:
        title: of it.
        rungs, choices, seeds, bench: as of `try_all`.
        output: the report's file.
        command: what this was asked for by.
    """
    found = try_all(rungs, choices, seeds, bench)
    lines = head_of_here(title, command)
    lines[-1:] = [
        f"- data: the first 50,000 training images of real MNIST, accuracy on the other 10,000; "
        f"seeds {FIRST_SEED} to {FIRST_SEED + seeds - 1}",
        "",
    ]
    save(output, [*lines, *render_choices(found)])


def render_choices(found: Sequence[Tried]) -> list[str]:
    """Tables as Markdown lines, one a rung: the most accurate first."""
    lines = []
    for name in dict.fromkeys(one.rung for one in found):
        lines += [
            f"## {name}",
            "",
            "| changed | accuracy, % (sd) | gain over nothing, points (95 %) | seeds "
            "| s: median (quartiles) | times faster than nothing (95 %) |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        of_rung = [one for one in found if one.rung == name]
        own = next(one for one in of_rung if not one.changes)
        alike = []
        for one in sorted(of_rung, key=lambda one: -float(np.mean(one.accuracies))):
            gain = faster = "–"
            if one.changes:
                gain = gain_interval(own.accuracies, one.accuracies)
                times = mean_ratio(own.seconds, one.seconds)
                faster = times_with_interval(times)
                points = [
                    two - before for before, two in zip(own.accuracies, one.accuracies, strict=True)
                ]
                _, low, high = mean_interval(points)
                if low <= 0 <= high and times[1] <= 1 <= times[2]:
                    alike.append(f"`{one.changes}`")
            lines.append(
                f"| {f'`{one.changes}`' if one.changes else '**nothing: as it is**'} "
                f"| {mean_and_deviation(one.accuracies)} | {gain} | {len(one.accuracies)} "
                f"| {spread(one.seconds)} | {faster} |"
            )
        lines.append("")
        if alike:
            lines += [
                "Neither in accuracy nor in time shown to differ from nothing, by these seeds: "
                f"{'; '.join(alike)}.",
                "",
            ]
    return lines
