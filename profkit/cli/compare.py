"""`profkit compare`."""

import sys
from pathlib import Path

import click

from .output_file import output_file


@click.command(epilog="Example: profkit compare runs/before runs/after")
@click.argument(
    "runs",
    nargs=-1,
    required=True,
    metavar="BASE NEW [MORE]...",
    type=click.Path(path_type=Path),
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "md", "json"]),
    default="terminal",
    show_default=True,
    help="A screen or Markdown for people, JSON for programs.",
)
@click.option(
    "--anyway",
    is_flag=True,
    help="Compare times although hardware, device, data or batch size differ.",
)
@output_file
def compare(
    runs: tuple[Path, ...], form: str, anyway: bool, output: Path | None, force: bool
) -> None:
    """Say which of several runs is faster, by how much, and which stage makes the difference."""
    from .. import api

    found = api.compare(*runs, anyway=anyway)
    if output is not None:
        api.save_text(output, api.render_comparison(found, form), force=force)
        click.echo(output)
    elif form == "terminal":
        from rich.console import Console

        from ..render.comparison import print_comparison

        # A pipe has no width; tables need more than the 80 columns that rich assumes then.
        print_comparison(found, Console() if sys.stdout.isatty() else Console(width=120))
    else:
        click.echo(api.render_comparison(found, form), nl=False)
