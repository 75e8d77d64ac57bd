"""`profkit trace`."""

import sys
from pathlib import Path

import click

from ..workloads.order import PROBES

_DEFAULT_STEPS = 120
_OF_WORKLOADS = (
    "workload", "source", "batch_size", "num_workers", "data_dir", "device", "threads", "seed",
)  # fmt: skip
"""Parameters that a user's own script decides by itself."""


class _Probes(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
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


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Example: profkit trace --stage dataloader -- train.py --epochs 1",
)
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
    help="Steps to time, a source [120; of a SCRIPT all, else it is stopped after them].",
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
@click.option(
    "--in-place", is_flag=True, help="Run a SCRIPT's passes here, not in a copy of this directory."
)
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as for `python -m`.")
@click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="[-- SCRIPT [ARGS]...]")
@click.pass_context
def trace(
    context: click.Context,
    stage: str,
    workload: str,
    source: str,
    steps: int | None,
    batch_size: int | None,
    num_workers: int,
    data_dir: Path | None,
    device: str,
    threads: int | None,
    seed: int,
    probes: tuple[str, ...],
    out: Path | None,
    force: bool,
    in_place: bool,
    module: bool,
    script: tuple[str, ...],
) -> int:
    """Train on MNIST, or run SCRIPT, and say which stage of the step costs the time, and why."""
    if script:
        _refuse_with_script(context)
        return _trace_script(module, script, stage, probes, steps, in_place, out, force)
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from .. import api
    from ..render.terminal import print_report

    order = api.TraceOrder(
        stage=stage,
        workload=workload,
        sources=("dataloader", "memory") if source == "both" else (source,),
        steps=steps if steps is not None else _DEFAULT_STEPS,
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
    return 0


def _refuse_with_script(context: click.Context) -> None:
    for name in _OF_WORKLOADS:
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} is for the built-in workloads, not for a script")


def _trace_script(
    module: bool,
    script: tuple[str, ...],
    stage: str,
    probes: tuple[str, ...],
    steps: int | None,
    in_place: bool,
    out: Path | None,
    force: bool,
) -> int:
    from rich.console import Console

    from .. import api
    from ..probe.telling import tell
    from ..render.terminal import print_report
    from ..render.units import one_line
    from .run import DEFAULT_WARMUP, make_target

    order = api.ScriptOrder(
        target=make_target(module, script[0], script[1:]),
        stage=stage,
        probes=probes,
        warmup=DEFAULT_WARMUP,
        steps=steps,
        in_place=in_place,
    )
    directory, found, code = api.trace_script(order, out, force=force, say=tell)
    if code:
        tell(f"{one_line(script[0])} ended with exit code {code}")
    print_report(found, Console() if sys.stdout.isatty() else Console(width=120))
    click.echo(directory)
    # As a shell says it where a signal ended the program.
    return code if code >= 0 else 128 - code
