"""`profkit trace`."""

import sys
from pathlib import Path

import click

from ..workloads.order import PROBES


class _Probes(click.ParamType[tuple[str, ...]]):
    """A list of probes with commas between, or `none`."""

    name = "PROBES"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in str(value).split(","))
        if names == ("none",):
            return ()
        for name in names:
            if name not in PROBES:
                self.fail(f"{name!r} is no probe: use {','.join(PROBES)} or none", param, ctx)
        return tuple(name for name in PROBES if name in names)


@click.command(epilog="Example: profkit trace --stage dataloader --steps 200")
@click.option(
    "--stage",
    type=click.Choice(["dataloader", "transfer", "forward", "backward", "optimizer", "step"]),
    default="step",
    show_default=True,
    help="Stage to drill down into; step is all of them.",
)
@click.option(
    "--workload",
    type=click.Choice(["fastmlp", "cnn"]),
    default="fastmlp",
    show_default=True,
    help="Network to train on MNIST.",
)
@click.option(
    "--source",
    type=click.Choice(["both", "dataloader", "memory"]),
    default="both",
    show_default=True,
    help="Feed it from a DataLoader, from memory, or from both in turns.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=120,
    show_default=True,
    help="Steps to time, a source.",
)
@click.option("--batch-size", type=click.IntRange(min=1), help="Images a batch [workload's own].")
@click.option(
    "--num-workers",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Worker processes of the DataLoader.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Directory with MNIST's IDX files [PROFKIT_DATA, else a cache, a download, drawn digits].",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where the model runs.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Intra-op threads [torch's own].")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=0,
    show_default=True,
    help="Of weights, batch order and block order.",
)
@click.option(
    "--probe",
    "probes",
    type=_Probes(),
    default="torch,stacks,lines",
    show_default=True,
    help="Probes to drill down with, each in a pass of its own, or none.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Directory to write [below runs/].")
@click.option("--force", is_flag=True, help="Replace what profkit wrote to --out before.")
def trace(
    stage: str,
    workload: str,
    source: str,
    steps: int,
    batch_size: int | None,
    num_workers: int,
    data_dir: Path | None,
    device: str,
    threads: int | None,
    seed: int,
    probes: tuple[str, ...],
    out: Path | None,
    force: bool,
) -> None:
    """Train on MNIST and say which stage of the step costs the time, and why."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from .. import api
    from ..render.terminal import print_report

    order = api.TraceOrder(
        stage=stage,
        workload=workload,
        sources=("dataloader", "memory") if source == "both" else (source,),
        steps=steps,
        batch_size=batch_size,
        num_workers=num_workers,
        data_dir=data_dir,
        device=device,
        threads=threads,
        seed=seed,
        probes=probes,
    )
    # No refresh thread: it would wake up inside the steps that are timed.
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(
        *columns, console=Console(stderr=True), auto_refresh=False, transient=True
    ) as bar:
        task = bar.add_task("preparing", total=1)

        def show(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share, refresh=True)

        directory, found = api.trace(order, out, force=force, show=show)
    # A pipe has no width; tables need more than the 80 columns that rich assumes then.
    print_report(found, Console() if sys.stdout.isatty() else Console(width=120))
    click.echo(directory)
