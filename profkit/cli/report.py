"""`profkit report`."""

from pathlib import Path

import click

from .output_file import output_file


@click.command(epilog="Example: profkit report runs/mine --format json -o report.json")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["md", "json"]),
    default="md",
    show_default=True,
    help="Markdown for people, JSON for programs.",
)
@output_file
def report(runs: tuple[Path, ...], form: str, output: Path | None, force: bool) -> None:
    """Render run directories, or directories that hold some; needs no torch."""
    from .. import api

    text = api.render_report(api.report(*runs), form)
    if output is None:
        click.echo(text, nl=False)
        return
    api.save_text(output, text, force=force)
    click.echo(output)
