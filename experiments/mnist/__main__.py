"""The ladder of MNIST trainings: `python -m experiments.mnist ladder`.

Nothing else may run on the machine meanwhile. What has ended is kept, and gone on from.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from profkit.errors import ProfkitError

from .ladder import Ladder, Rung
from .ladders import LADDERS, rung_named

SEEDED = ("tuned", "ablated", "ablated_fp32", "mlp_ends_early")
"""Rungs whose accuracy over many seeds is reported."""

_device = click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
_data = click.option("--data-dir", type=click.Path(path_type=Path), help="Of MNIST's four files.")
_kept = click.option(
    "--kept",
    type=click.Path(path_type=Path),
    default=Path("runs", "mnist"),
    show_default=True,
    help="Where results and recordings are kept.",
)


class StoppedError(click.ClickException):
    """Ctrl-C, which loses nothing that has ended."""

    exit_code = 130


class Commands(click.Group):
    """Commands that may be stopped and gone on with."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise StoppedError(
                "stopped; what ended is kept, and the same command goes on from there"
            ) from None
        except ProfkitError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=Commands, help=__doc__)
def main() -> None:
    pass


def _chosen(ladder: Ladder, rungs: str) -> list[Rung]:
    """Rungs of `0-8`, `3` or `0,2,5-7`."""
    numbers: set[int] = set()
    try:
        for part in rungs.split(","):
            low, _, high = part.partition("-")
            numbers.update(range(int(low), int(high or low) + 1))
    except ValueError:
        raise click.BadParameter(f"--rungs {rungs!r}: write 0-8, 3 or 0,2,5-7") from None
    unknown = sorted(numbers - {rung.number for rung in ladder})
    if unknown or not numbers:
        raise click.BadParameter(
            f"--rungs {rungs!r}: there is no rung {', '.join(map(str, unknown)) or 'in it'}; "
            f"there are 0 to {len(ladder.rungs) - 1}"
        )
    return [rung for rung in ladder if rung.number in numbers]


def _named(names: Sequence[str]) -> list[Rung]:
    try:
        return [rung_named(name) for name in names]
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _said(words: Sequence[str], device: str = "auto", output: Path | None = None) -> str:
    """The command that was given, as far as its report depends on it."""
    said = ["python -m experiments.mnist", click.get_current_context().info_name or "", *words]
    if device != "auto":
        said.append(f"--device {device}")
    if output is not None and not output.is_absolute():
        said.append(f"-o {output.as_posix()}")
    return " ".join(said)


def _command(climbed: Ladder) -> click.Command:
    last = len(climbed.rungs) - 1

    @click.command(climbed.name, help=f"{climbed.title}: train every rung, and report on each.")
    @click.option("--rungs", default=f"0-{last}", show_default=True, help="Such as 0-2, 3 or 0,2.")
    @click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
    @click.option("--isolate", is_flag=True, help="Measure changes without their riders as well.")
    @_device
    @_data
    @_kept
    @click.option("-o", "--output", type=click.Path(path_type=Path), help="The report's file.")
    def command(
        rungs: str,
        seeds: int,
        isolate: bool,
        device: str,
        data_dir: Path | None,
        kept: Path,
        output: Path | None,
    ) -> None:
        from .bench import open_bench  # it loads torch, and so does the next
        from .climbing import climb

        chosen = _chosen(climbed, rungs)
        said = [f"--seeds {seeds}"]
        if len(chosen) < len(climbed.rungs):
            said.append(f"--rungs {rungs}")
        if isolate:
            said.append("--isolate")
        with open_bench(device, data_dir, kept) as bench:
            climb(climbed, chosen, seeds, isolate, bench, output, _said(said, device, output))

    return command


@main.command("seeds", help="Train rungs with many seeds, for their accuracy alone.")
@click.argument("names", metavar="[RUNG]...", nargs=-1)
@click.option("--seeds", default=30, show_default=True, type=click.IntRange(1))
@click.option("--engine", default="local", type=click.Choice(["local", "ray"]), show_default=True)
@_device
@_data
@_kept
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("reports", "seeds.md")
)
def seeds_command(
    names: tuple[str, ...],
    seeds: int,
    engine: str,
    device: str,
    data_dir: Path | None,
    kept: Path,
    output: Path,
) -> None:
    from .seeding import Engine  # it loads torch, and so does the next
    from .seeds import report_seeds

    chosen = names or SEEDED
    _named(chosen)
    said = [*names, f"--seeds {seeds}"]
    if engine != "local":
        said.append(f"--engine {engine}")
    words = _said(said, device)
    report_seeds(chosen, seeds, Engine(engine), device, data_dir, kept, output, words)


@main.command("choices", help="Other constants of the fastest rungs, on left-out training images.")
@click.argument("names", metavar="[RUNG]...", nargs=-1)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--undo", is_flag=True, help="Undo each technique of the fastest instead.")
@_device
@_data
@_kept
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The report's file.")
def choices_command(
    names: tuple[str, ...],
    seeds: int,
    undo: bool,
    device: str,
    data_dir: Path | None,
    kept: Path,
    output: Path | None,
) -> None:
    from .bench import open_bench  # it loads torch, and so does the next
    from .choices import CHOICES, UNDONE, report_choices

    title, choices, file = "Constants, chosen without the test images", CHOICES, "choices.md"
    said = [*names, f"--seeds {seeds}"]
    if undo:
        title, choices, file = "What each technique is worth, by undoing it", UNDONE, "undone.md"
        said.append("--undo")
    rungs = _named(names or tuple(choices))
    with open_bench(device, data_dir, kept) as bench:
        report_choices(
            title,
            rungs,
            choices,
            seeds,
            bench,
            output or Path("reports", file),
            _said(said, device, output),
        )


@main.command("inference", help="How fast FastMLP answers, by six ways of asking it.")
@_data
@click.option("--keep", type=click.Path(path_type=Path), help="A file of results, for --merge.")
@click.option(
    "--merge",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Report on results that machines kept, once for each; nothing is measured.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("reports", "inference.md")
)
def inference_command(
    data_dir: Path | None, keep: Path | None, merge: tuple[Path, ...], output: Path
) -> None:
    from .inference import report_inference  # it loads torch

    if keep is not None and merge:
        raise click.UsageError("--keep and --merge: what is merged was kept already")
    report_inference(data_dir, merge, keep, output)


for _ladder in LADDERS:
    main.add_command(_command(_ladder))


if __name__ == "__main__":
    main()
