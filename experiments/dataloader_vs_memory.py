"""MNIST from a DataLoader and from memory: `python -m experiments.dataloader_vs_memory`.

Runs `profkit trace` in several new processes for each setting, in turns, and writes
reports/dataloader-vs-memory.md. Needs real MNIST (PROFKIT_DATA, or --data-dir), and a machine
on which nothing else runs meanwhile. Takes about two minutes on two cores.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from .measured import head, save, spread

REPORT = Path("reports", "dataloader-vs-memory.md")
SETTINGS = {
    "FastMLP, batch 512, 0 workers": ("--workload", "fastmlp"),
    "FastMLP, batch 512, 2 workers": ("--workload", "fastmlp", "--num-workers", "2"),
    "CNN of rung 2, batch 64, 0 workers": ("--workload", "cnn"),
}


def trace(out: Path, options: tuple[str, ...], seed: int) -> dict[str, Any]:
    """Run one `profkit trace` in a process of its own; its JSON report."""
    command = [sys.executable, "-m", "profkit"]
    subprocess.run(
        [*command, "trace", *options, "--seed", str(seed), "--probe", "none", "--out", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    shown = subprocess.run(
        [*command, "report", str(out), "--format", "json"],
        check=True,
        stdout=subprocess.PIPE,
    )
    report: dict[str, Any] = json.loads(shown.stdout)
    if report["runs"][0]["run"]["data"]["name"] != "MNIST":
        raise SystemExit("this experiment needs real MNIST: set PROFKIT_DATA or give --data-dir")
    return report


def section(name: str, options: tuple[str, ...], reports: list[dict[str, Any]]) -> list[str]:
    """One setting: its stages, speedup and verdicts over the processes."""
    sources = [run["run"]["name"] for run in reports[0]["runs"]]
    counts = [run["steps"]["count"] for report in reports for run in report["runs"]]
    lines = [
        f"## {name}",
        "",
        f"`profkit trace {' '.join(options)}` in {len(reports)} processes, {min(counts)} to "
        f"{max(counts)} steps a source in each. Median (quartiles) over the processes of each "
        "one's median ms a step, and of its share.",
        "",
        "| stage | " + " | ".join(f"{source}: ms | share, %" for source in sources) + " |",
        "|---|" + "---:|" * (2 * len(sources)),
    ]
    for stage in reports[0]["runs"][0]["stages"]:
        cells = []
        for row, _ in enumerate(sources):
            seen = [report["runs"][row]["stages"][stage] for report in reports]
            if None in seen:
                cells += ["–", "–"]
                continue
            cells.append(spread([one["median_ns"] / 1e6 for one in seen]))
            cells.append(spread([100 * one["share"] for one in seen]))
        lines.append(f"| {stage} | " + " | ".join(cells) + " |")
    steps = [
        spread([report["runs"][row]["steps"]["step_time_ns"]["median"] / 1e6 for report in reports])
        for row, _ in enumerate(sources)
    ]
    lines.append("| step | " + " | ".join(f"{step} | 100" for step in steps) + " |")
    speedups = [report["comparison"]["speedup"] for report in reports]
    lines += [
        "",
        f"Memory over DataLoader, the {len(reports)} processes: "
        + ", ".join(f"{value:.2f}×" for value in speedups)
        + f"; median {np.median(speedups):.3g}×.",
        "",
    ]
    for row, source in enumerate(sources):
        for report in reports:
            lines.append(f"- {source}: {report['runs'][row]['verdict']['sentence']}")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--data-dir")
    parser.add_argument("-o", "--output", type=Path, default=REPORT)
    given = parser.parse_args()
    data = ("--data-dir", given.data_dir) if given.data_dir else ()
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as scratch:
        for process in range(given.processes):
            for row, (name, options) in enumerate(SETTINGS.items()):
                out = Path(scratch, f"{row}-{process}")
                reports[name].append(trace(out, (*options, *data), seed=process))
        first = Path(scratch, "0-0")
        figures = given.output.parent / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        for figure in sorted((first / "figures").iterdir()):
            shutil.copy(figure, figures / f"dataloader-vs-memory-{figure.name}")
        lines = head(
            "MNIST from a DataLoader and from memory",
            "python -m experiments.dataloader_vs_memory",
            first / "dataloader",
        )
    stages = "figures/dataloader-vs-memory-stages.svg"
    lines[-1:] = [f"- data: real MNIST, {given.processes} seeds", ""]
    lines += [f"![FastMLP, 0 workers, first process: mean step and its stages]({stages})", ""]
    for name, options in SETTINGS.items():
        lines += section(name, options, reports[name])
    save(given.output, lines)


if __name__ == "__main__":
    main()
