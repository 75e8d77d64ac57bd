"""`profkit tune`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .check import Duration, progress
from .run import make_target


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Example: profkit tune --budget 3min train.py --epochs 5",
)
@click.option(
    "--budget",
    type=Duration(),
    default="120s",
    show_default=True,
    help="For all of it, such as 90s or 5min.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Directory to write; one that was broken off is gone on with [below runs/].",
)
@click.option("--force", is_flag=True, help="Begin anew, and replace an earlier result.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["terminal", "md", "json"]),
    default="terminal",
    show_default=True,
    help="A screen or Markdown for people, JSON for programs.",
)
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as for `python -m`.")
@click.argument("script", metavar="SCRIPT")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
def tune(
    budget: float,
    out: Path | None,
    force: bool,
    form: str,
    module: bool,
    script: str,
    arguments: tuple[str, ...],
) -> None:
    """Try fixes on SCRIPT, in copies of it, and say which of them makes it faster, proven."""
    from .. import api
    from ..render.units import plural
    from ..scripts.target import check_target
    from ..tuning import kept_trials, tune_directory
    from ..verify.tune import most_runs

    target = make_target(module, script, arguments)
    check_target(target)
    directory = tune_directory(target) if out is None else out
    kept = 0 if force else kept_trials(target, directory)
    if kept:
        _say(f"going on after {plural(kept, 'trial')} that {directory} holds")
    _say(
        f"{script} is started at most {most_runs(budget)} times, in copies of its directory and "
        f"within {budget:.0f} s: as it is, and with each fix"
    )
    try:
        with progress(budget) as show:
            found = api.tune(target, budget_s=budget, out=directory, force=force, show=show)
    except (KeyboardInterrupt, SystemExit):
        kept = kept_trials(target, directory)
        _say(
            f"{plural(kept, 'trial')} {'is' if kept == 1 else 'are'} kept in {directory}: the same "
            "command goes on from there"
            if kept
            else "interrupted before anything was measured"
        )
        raise
    if form == "terminal":
        from rich.console import Console

        from ..render.tuning import print_tuning

        print_tuning(found, Console() if sys.stdout.isatty() else Console(width=140))
    else:
        click.echo(api.render_tuning(found, form), nl=False)
    for name in ("tune.md", "tune.json"):
        click.echo(directory / name, err=form != "terminal")


def _say(text: str) -> None:
    from ..render.units import one_line

    click.echo(f"profkit: {one_line(text, 300)}", err=True)
