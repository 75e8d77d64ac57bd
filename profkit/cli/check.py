"""`profkit check`."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import InputError
from .run import make_target

if TYPE_CHECKING:
    from ..schema.gate import GateFindings
    from ..scripts.target import Target

EXIT_CODES = {"below": 0, "above": 1, "inconclusive": 3}
"""By outcome; 2 is an error, as everywhere."""


class _Share(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A limit such as 5% or 0.05."""

    name = "SHARE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from ..verify.amounts import share_of_text

        try:
            return share_of_text(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4
    """A time such as 60s, 2min or 90, in seconds."""

    name = "TIME"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """So many seconds."""
        from ..verify.amounts import seconds_of_text

        try:
            return seconds_of_text(str(value))
        except InputError as error:
            self.fail(str(error), param, ctx)


class _Program(click.ParamType):  # type: ignore[type-arg]
    """Another script and its arguments, in one word of the shell."""

    name = "'SCRIPT [ARGS]'"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Target:
        try:
            words = shlex.split(str(value))
        except ValueError as error:
            self.fail(f"{value!r}: {str(error).lower()}", param, ctx)
        module = words[:1] == ["-m"]
        words = words[1:] if module else words
        if not words:
            self.fail(f"{value!r} names no script", param, ctx)
        return make_target(module, words[0], tuple(words[1:]))


@click.command(
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="Example: profkit check --base-ref main --max-regression 5% -- train.py",
)
@click.option("--base-ref", metavar="REVISION", help="Compare with SCRIPT as it was there.")
@click.option("--base", type=_Program(), help="Compare with another script, or with '-m MODULE'.")
@click.option(
    "--budget",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with limits: shares of the step need no base, ratios do.",
)
@click.option(
    "--max-regression",
    type=_Share(),
    help="How much longer than the base's the step may be, such as 5% or 0.05 [5% with a base].",
)
@click.option(
    "--max-time",
    type=Duration(),
    default="60s",
    show_default=True,
    help="For the whole check, such as 90s or 2min; it ends sooner once the result is clear.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 32),
    default=3,
    show_default=True,
    help="Processes of each version: two of identical code differ by about 1 %.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Intra-op threads of each process; more than one is noisier.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Directory for check.md, junit.xml and check.json [below runs/].",
)
@click.option("--force", is_flag=True, help="Replace these files if they are there.")
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as for `python -m`.")
@click.argument("script", metavar="SCRIPT")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
def check(
    base_ref: str | None,
    base: Target | None,
    budget: Path | None,
    max_regression: float | None,
    max_time: float,
    processes: int,
    threads: int,
    out: Path | None,
    force: bool,
    module: bool,
    script: str,
    arguments: tuple[str, ...],
) -> int:
    """Hold SCRIPT's training steps against another version's, or against a budget.

    Exit code 0 within the limits, 1 for a regression, 3 inconclusive, 2 for an error.
    """
    if base_ref is not None and base is not None:
        raise click.UsageError("--base-ref and --base exclude each other: give one of them")
    from .. import api
    from ..verify.budget import read_budget
    from ..verify.order import limits_for

    limits = limits_for(
        None if budget is None else read_budget(budget),
        max_regression,
        has_base=base_ref is not None or base is not None,
    )
    order = api.CheckOrder(
        target=make_target(module, script, arguments),
        limits=limits,
        base=base,
        base_ref=base_ref,
        max_time_s=max_time,
        processes=processes,
        threads=threads,
    )
    directory = out
    if directory is None:
        directory = Path("runs", f"check-{datetime.now().strftime('%Y%m%d-%H%M%S')}")
    with progress(max_time) as show:
        found = api.check(order, directory, command=_again(sys.argv[1:]), force=force, show=show)
    _tell(found)
    for name in api.CHECK_FILES:
        click.echo(directory / name)
    return EXIT_CODES[found.outcome.value]


def _tell(found: GateFindings) -> None:
    from rich.console import Console

    from ..render.gate import print_gate

    print_gate(found, Console() if sys.stdout.isatty() else Console(width=120))


@contextmanager
def progress(max_time_s: float) -> Iterator[Callable[[str, float], None]]:
    """What is told on stderr while it measures: nothing unless someone looks."""
    if not sys.stderr.isatty():
        yield lambda what, share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from ..render.units import one_line

    ends = time.monotonic() + max_time_s
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    # No refresh thread: it would wake up inside the steps that are timed.
    with Progress(
        *columns, console=Console(stderr=True), auto_refresh=False, transient=True
    ) as bar:
        task = bar.add_task("preparing", total=1)

        def show(what: str, share: float) -> None:
            left = max(0, round(ends - time.monotonic()))
            text = f"{one_line(what)}, at most {left} s left"
            bar.update(task, description=text, completed=share, refresh=True)

        yield show


def _again(arguments: list[str]) -> str:
    """The command of this check, without directories of this machine and secrets."""
    from ..probe.command import printable, shown_arguments

    shown = shown_arguments(arguments)
    for row, word in enumerate(arguments):
        name, equals, value = word.partition("=")
        if row and arguments[row - 1] == "--base":
            shown[row] = _again_base(word)
        elif name == "--base" and equals:
            shown[row] = f"--base={_again_base(value)}"
        if word == "--":
            break
    return printable(shlex.join(["profkit", *shown]))


def _again_base(words: str) -> str:
    from ..probe.command import shown_arguments

    try:
        return shlex.join(shown_arguments(shlex.split(words)))
    except ValueError:  # an argument of the script's, of that name
        return words
