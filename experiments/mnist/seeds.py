"""Trains rungs with many seeds, and reports what accuracy they reach."""

from collections.abc import Sequence
from pathlib import Path

from ..measured import head_of_here, save
from .bench import open_bench
from .ladders import ladder_of, rung_named
from .seeding import Engine, reach
from .seeds_report import draw_seeds, render_seeds


def report_seeds(
    names: Sequence[str],
    seeds: int,
    engine: Engine,
    device: str,
    data_dir: Path | None,
    kept: Path,
    output: Path,
    command: str,
) -> None:
    """Train, and write the report and its figure.

    Args:
        names: of rungs.
        seeds: of each.
        engine: where trainings run.
        device: `auto`, `cpu` or `cuda`.
        data_dir: of MNIST; None: where profkit finds it.
        kept: results of earlier calls, and of this one.
        output: the report's file.
        command: what this was asked for by.
    """
    with open_bench(device, data_dir, kept) as bench:
        results = reach([rung_named(name) for name in names], seeds, engine, bench)
        machine = bench.machine
    found = {name: [one.training.accuracy for one in results[name]] for name in names}
    aims = {name: ladder_of(name).aim for name in found}
    commits = ", ".join(sorted({one.commit for each in results.values() for one in each}))
    lines = head_of_here("Accuracy over seeds", command)
    lines[-1:] = [
        f"- data: real MNIST; on {machine.device}; commit of the trainings: {commits}",
        f"- engine: {engine.value}; a seed that another command had trained already is taken over",
        "",
    ]
    figure = output.parent / "figures" / f"{output.stem}.svg"
    figure.parent.mkdir(parents=True, exist_ok=True)
    figure.write_text(draw_seeds(found, f"{machine.hardware}; MNIST, {seeds} seeds; {commits}"))
    lines += [f"![Accuracy over seeds](figures/{figure.name})", "", *render_seeds(found, aims)]
    save(output, lines)
