"""`profkit run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..workloads.order import PROBES

if TYPE_CHECKING:
    from ..scripts.target import Target

DEFAULT_WARMUP = 10


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Example: profkit run --warmup 20 train.py --epochs 3",
)
@click.option("--out", type=click.Path(path_type=Path), help="Run directory [below runs/].")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    help="Training steps to time; then the program goes on unobserved [all].",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=DEFAULT_WARMUP,
    show_default=True,
    help="First training steps to leave out of the times.",
)
@click.option("--force", is_flag=True, help="Replace what profkit wrote to --out before.")
@click.option("--quiet", is_flag=True, help="Say nothing unless something fails.")
@click.option("--stop", is_flag=True, hidden=True)
@click.option("--probe", type=click.Choice(PROBES), hidden=True)
@click.option("--into", type=click.Path(path_type=Path), hidden=True)
@click.option("--tensorboard", type=click.Path(path_type=Path), hidden=True)
@click.option("--device", default="cpu", hidden=True)
@click.option("--step-ns", type=float, default=0.0, hidden=True)
@click.option("--workers", type=int, default=0, hidden=True)
@click.option("--paced", type=(int, int), hidden=True)
@click.option("--fixes", hidden=True)
@click.option("--tied", type=int, hidden=True)
@click.option("-m", "module", is_flag=True, help="Run a module, as `python -m` does.")
@click.argument("script", metavar="SCRIPT")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
def run(
    out: Path | None,
    steps: int | None,
    warmup: int,
    force: bool,
    quiet: bool,
    stop: bool,
    probe: str | None,
    into: Path | None,
    tensorboard: Path | None,
    device: str,
    step_ns: float,
    workers: int,
    paced: tuple[int, int] | None,
    fixes: str | None,
    tied: int | None,
    module: bool,
    script: str,
    arguments: tuple[str, ...],
) -> None:
    """Run a training script as `python` would, and say which stage of its steps costs the time."""
    from ..probe.telling import tell
    from ..scripts.fix_order import read_fixes
    from ..scripts.running import RunOrder, run_observed

    target = make_target(module, script, arguments)
    if probe is not None and into is not None and tensorboard is not None:
        # What `profkit trace` starts for each of its passes.
        from ..scripts.script_pass import PassOrder, run_pass

        run_pass(PassOrder(target, probe, into, tensorboard, device, step_ns, workers))
    if paced is not None:
        # What `profkit check` and `profkit tune` start several of.
        from ..scripts.paced_run import PacedOrder, run_paced

        run_paced(PacedOrder(target, *paced, warmup, read_fixes(fixes)))
    if tied is not None:
        # A look of `profkit tune`, which may be killed meanwhile.
        from ..scripts.tied import end_with

        end_with(tied)
    order = RunOrder(target, out, warmup, steps, force, stop, quiet, read_fixes(fixes))
    run_observed(order, tell, _summarize)


def make_target(module: bool, script: str, arguments: tuple[str, ...]) -> Target:
    """The program that a command line names."""
    from ..scripts.target import Target

    return Target("module" if module else "script", script, arguments)


def _summarize(path: Path) -> None:
    import os
    import sys

    from rich.console import Console

    from .. import api
    from ..probe.telling import tell
    from ..render.terminal import print_report

    stream = sys.__stderr__
    if stream is None or stream.closed:
        return
    try:
        width = None if stream.isatty() else 120
        print_report(api.report(path), Console(file=stream, width=width))
    except Exception as error:  # the program's own end must stay what it is
        tell(f"no summary: {error}; the run is in {os.path.relpath(path)}")
        return
    tell(f"the run is in {os.path.relpath(path)}")
