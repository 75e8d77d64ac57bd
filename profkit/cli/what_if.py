"""`profkit what-if`."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .output_file import output_file

if TYPE_CHECKING:
    from ..schema.prediction import Question

_WITHOUT = re.compile(r"([^=]+)(?:=([0-9]+(?:\.[0-9]+)?) ?%?)?")


@click.command("what-if", epilog="Example: profkit what-if runs/mine --without ToTensor=50%")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--without",
    multiple=True,
    metavar="NAME[=X%]",
    help="A stage, transform or part of a batch's cost that takes nothing, or X % less.",
)
@click.option("--memory", is_flag=True, help="The decoded data lies in memory.")
@click.option("--workers", multiple=True, type=click.IntRange(0, 1024), help="Loader workers.")
@click.option(
    "--prefetch", multiple=True, type=click.IntRange(1, 1024), help="Batches ahead of each worker."
)
@click.option("--threads", multiple=True, type=click.IntRange(1, 1024), help="Intra-op threads.")
@click.option(
    "--batch",
    multiple=True,
    type=click.FloatRange(0, 1000, min_open=True),
    metavar="TIMES",
    help="Batches that are so many times as large.",
)
@click.option(
    "--probe",
    "probes",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="A short run with other loader workers or threads, to tell what they do to each other.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "md", "json"]),
    default="terminal",
    show_default=True,
    help="A screen or Markdown for people, JSON for programs.",
)
@output_file
def what_if(
    run: Path,
    without: tuple[str, ...],
    memory: bool,
    workers: tuple[int, ...],
    prefetch: tuple[int, ...],
    threads: tuple[int, ...],
    batch: tuple[float, ...],
    probes: tuple[Path, ...],
    form: str,
    output: Path | None,
    force: bool,
) -> None:
    """Predict the step time of a recorded run after a change; needs no torch."""
    from .. import api
    from ..schema.prediction import Change, Question

    questions = [Question(Change.MEMORY)] if memory else []
    questions += [_without(text) for text in without]
    questions += [Question(Change.WORKERS, amount=count) for count in workers]
    questions += [Question(Change.PREFETCH, amount=count) for count in prefetch]
    questions += [Question(Change.THREADS, amount=count) for count in threads]
    questions += [Question(Change.BATCH, amount=times) for times in batch]
    found = api.what_if(run, questions, probes)
    if output is not None:
        api.save_text(output, api.render_predictions(found, form), force=force)
        click.echo(output)
    elif form == "terminal":
        from rich.console import Console

        from ..render.prediction import print_predictions

        # A pipe has no width; tables need more than the 80 columns that rich assumes then.
        print_predictions(found, Console() if sys.stdout.isatty() else Console(width=140))
    else:
        click.echo(api.render_predictions(found, form), nl=False)


def _without(text: str) -> "Question":
    from ..schema.prediction import Change, Question

    found = _WITHOUT.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r}: write a name, or name=50%", param_hint="--without")
    name, percent = found.groups()
    share = 1.0 if percent is None else float(percent) / 100
    if not 0 < share <= 1:
        raise click.BadParameter(
            f"{text!r}: give more than 0 % and at most 100 %", param_hint="--without"
        )
    return Question(Change.PART, name, share)
