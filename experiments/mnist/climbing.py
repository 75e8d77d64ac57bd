"""Measures a ladder, profiles it, and writes its report."""

from collections.abc import Sequence
from pathlib import Path

from ..measured import head, save
from . import claims, figures
from .bench import Bench
from .dominance import Dominance, Recorded, dominance_of
from .findings import RungFindings, find, step_of
from .forty_rungs import FORTY
from .ladder import Ladder, Rung
from .ladder_report import render, render_dominance
from .ladders import rung_named
from .machine import Machine
from .measuring import LONG_S, measure, profiled
from .program import chosen_device, gap_of
from .rates import peak_beside
from .recipe import Source
from .simple_rungs import SIMPLE

PROOF = "no_workers"
"""A rung whose network is so small that its DataLoader holds most of the step."""
OWN_SECTIONS = {FORTY.name: claims.reductions, SIMPLE.name: claims.convolution}
"""What a ladder's report has beside what all have."""


def climb(
    ladder: Ladder,
    rungs: Sequence[Rung],
    seeds: int,
    is_isolated: bool,
    bench: Bench,
    output: Path | None,
    command: str,
) -> None:
    """Train, record and report rungs of a ladder.

    Args:
        ladder: which.
        rungs: of it, in order.
        seeds: of each.
        is_isolated: measure changes without their riders as well.
        bench: where.
        output: the report's file; None: below `reports/`, by device, or beside what is kept where
            rungs are missing.
        command: what this was asked for by.
    """
    machine = bench.machine
    names = [rung.name for rung in rungs]
    with_riders = [rung for rung in rungs if rung.riders and rung.on in names]
    results, isolated = measure(
        rungs, seeds, with_riders if is_isolated else [], ladder.name, bench
    )
    runs = {rung.name: profiled(rung, bench) for rung in rungs}
    peak = peak_beside(runs.values(), chosen_device(machine.device), bench.results.directory)
    found = find(rungs, results, isolated, runs)
    if output is None:
        is_whole = len(rungs) == len(ladder.rungs)
        place = Path("reports") if is_whole else bench.results.directory
        output = place / f"{ladder.name}-{machine.short_name}.md"
    lines = head(ladder.title, command, runs[rungs[0].name])
    lines[-1:] = _notes(found)
    lines += _drawn(found, ladder.aim, machine, output)
    slow = [rung for rung in rungs if _loads_in_the_loop(rung) and rung.name != PROOF]
    fast = rung_named(PROOF)
    loaded: dict[str, Dominance] = {}
    wait = 0.0
    if slow:
        proof = Recorded(profiled(fast, bench), fast.recipe.data.batch_size)
        wait = step_of(proof.run).stage_shares["dataloader"] or 0.0
        loaded = {
            rung.name: dominance_of(Recorded(runs[rung.name], rung.recipe.data.batch_size), proof)
            for rung in slow
        }
    own = OWN_SECTIONS.get(ladder.name)
    lines += render(found, ladder, peak)
    if own is not None:
        lines += own(found)
    save(output, [*lines, *render_dominance(loaded, PROOF, wait)])


def _loads_in_the_loop(rung: Rung) -> bool:
    data = rung.recipe.data
    return data.source is Source.LOADER and not data.workers


def _notes(found: Sequence[RungFindings]) -> list[str]:
    commits = sorted({one.commit for rung in found for one in rung.results})
    days = sorted({one.day for rung in found for one in rung.results})
    seeds = sorted({len(rung.results) for rung in found})
    counted = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    gaps = {one.rung.name: gap_of(one.rung.recipe) for one in found}
    return [
        f"- data: real MNIST, {counted} seeds; trainings longer than {LONG_S:.0f} s have one",
        f"- trainings: of {', '.join(days)}, at commit {', '.join(commits)}",
        *(f"- gap: {name}: {gap}" for name, gap in gaps.items() if gap is not None),
        "",
    ]


def _drawn(found: Sequence[RungFindings], aim: float, machine: Machine, report: Path) -> list[str]:
    """Figures beside the report, and the lines that show them."""
    commits = ", ".join(sorted({one.commit for rung in found for one in rung.results}))
    seeds = max(len(rung.results) for rung in found)
    note = f"{machine.hardware}; MNIST, up to {seeds} seeds; commit {commits}"
    drawn = {
        "rungs": ("A bar a rung, and its stages", figures.draw_rungs(found, note)),
        "accuracy": ("Time against accuracy", figures.draw_accuracy(found, aim, note)),
        "forecasts": ("Predicted against measured", figures.draw_forecasts(found, note)),
    }
    lines = []
    directory = report.parent / "figures"
    directory.mkdir(parents=True, exist_ok=True)
    for name, (title, text) in drawn.items():
        if text is None:
            continue
        path = directory / f"{report.stem}-{name}.svg"
        path.write_text(text)
        lines += [f"![{title}](figures/{path.name})", ""]
    return lines
