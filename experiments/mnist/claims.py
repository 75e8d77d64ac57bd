"""Claims that name no method: a definition for each, and what it gives here."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..measured import spread
from .findings import RungFindings
from .rates import measure_peak

CLAIMED = 0.4
"""The part of data loading, and of training time, that is claimed to go."""
AIM = 0.98
CALLS = 20
SIDE, CHANNELS, OUTPUTS, KERNEL = 100, 3, 64, 3

Measure = Callable[[RungFindings], float | None]


def _until(one: RungFindings) -> float | None:
    times = one.until(AIM)
    return float(np.median(times)) if len(times) == len(one.results) else None


DEFINITIONS: tuple[tuple[str, Measure], ...] = (
    ("data wait, s an epoch", lambda one: one.stages_s["dataloader"]),
    ("data wait, share of the step", lambda one: one.step.stage_shares["dataloader"]),
    ("s an epoch", lambda one: one.epoch_s),
    ("s of the whole training", lambda one: float(np.median(one.seconds))),
    (f"s until {100 * AIM:g} %", _until),
)


def reductions(found: Sequence[RungFindings]) -> list[str]:
    """By each definition, how much less than the first rung each other one has, as Markdown."""
    first, *rest = found
    lines = [
        f"## Is it {100 * CLAIMED:.0f} % less?",
        "",
        "The claim names neither a baseline nor what it measures. Here the baseline is "
        f"{first.rung.name}, and each column is one thing that could be meant, in percent of "
        "what it is there.",
        "",
        "| rung | " + " | ".join(name for name, _ in DEFINITIONS) + " |",
        "|---|" + "---:|" * len(DEFINITIONS),
    ]
    for one in rest:
        cells = [_percent(measure(first), measure(one)) for _, measure in DEFINITIONS]
        lines.append(f"| {one.rung.name} | {' | '.join(cells)} |")
    lines += ["", f"What takes {100 * CLAIMED:.0f} % or more away, by definition:", ""]
    for name, measure in DEFINITIONS:
        whole = measure(first)
        met = [
            one.rung.name
            for one in rest
            if whole and (now := measure(one)) is not None and now <= (1 - CLAIMED) * whole
        ]
        lines.append(f"- {name}: {', '.join(met) or 'none of them'}")
    lines += [
        "",
        "So the claim can be neither confirmed nor refuted as it stands: which trick does it, and "
        "whether any does, depends on what is meant, and on a baseline that it does not name.",
        "",
    ]
    return lines


def _percent(before: float | None, after: float | None) -> str:
    if not before or after is None:
        return "–"
    return f"{100 * (after / before - 1):+.0f} %"


def convolution(found: Sequence[RungFindings]) -> list[str]:
    """What one convolution of 100 by 100 by 3 takes, counted and timed now, as Markdown."""
    layer = nn.Conv2d(CHANNELS, OUTPUTS, KERNEL, padding=KERNEL // 2)
    image = torch.rand(1, CHANNELS, SIDE, SIDE)
    expected = SIDE * SIDE * KERNEL * KERNEL * CHANNELS * OUTPUTS
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            layer(image)
        taken = []
        for _ in range(CALLS):
            began = time.perf_counter()
            layer(image)
            taken.append(time.perf_counter() - began)
    counted = counter.get_total_flops()
    rate = counted / float(np.median(taken))
    # Not the recordings' peak: this machine's hours differ by more than half.
    peak = measure_peak(torch.device("cpu")).rates["fp32"]
    return [
        "## The argument by multiply-adds",
        "",
        f"A convolution of a {SIDE}×{SIDE}×{CHANNELS} image with {OUTPUTS} kernels of {KERNEL}×"
        f"{KERNEL}: {SIDE} · {SIDE} · {KERNEL} · {KERNEL} · {CHANNELS} · {OUTPUTS} = "
        f"{expected / 1e6:.2f} million multiply-adds, or {2 * expected / 1e6:.2f} million "
        f"operations; counted as it ran: {counted / 1e6:.2f} million. It takes "
        f"{spread([1e3 * one for one in taken])} ms on this CPU, which is "
        f"{rate / 1e9:.1f} GFLOP/s, {100 * rate / peak:.0f} % of its peak as measured right "
        f"after it, {peak / 1e9:.0f} GFLOP/s.",
        "",
    ]
