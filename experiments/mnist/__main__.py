"""The ladder of MNIST trainings: `python -m experiments.mnist ladder`.

Nothing else may run on the machine meanwhile. What has ended is kept, and gone on from.
"""

from pathlib import Path

import click

from .ladder import Ladder, Rung
from .ladders import LADDERS


@click.group(help=__doc__)
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


def _command(climbed: Ladder) -> click.Command:
    last = len(climbed.rungs) - 1

    @click.command(climbed.name, help=f"{climbed.title}: train every rung, and report on each.")
    @click.option("--rungs", default=f"0-{last}", show_default=True, help="Such as 0-2, 3 or 0,2.")
    @click.option("--seeds", default=5, show_default=True, type=click.IntRange(1))
    @click.option("--isolate", is_flag=True, help="Measure changes without their riders as well.")
    @click.option("--device", default="auto", type=click.Choice(["auto", "cpu", "cuda"]))
    @click.option("--data-dir", type=click.Path(path_type=Path), help="Of MNIST's four files.")
    @click.option(
        "--kept",
        type=click.Path(path_type=Path),
        default=Path("runs", "mnist"),
        show_default=True,
        help="Where results and recordings are kept.",
    )
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
        from .climbing import climb  # it loads torch

        chosen = _chosen(climbed, rungs)
        climb(climbed, chosen, seeds, isolate, device, data_dir, kept, output)

    return command


for _ladder in LADDERS:
    main.add_command(_command(_ladder))


if __name__ == "__main__":
    main()
