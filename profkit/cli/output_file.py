"""Where a command writes to instead of the screen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def output_file(command: Command) -> Command:
    """Options `--output` and `--force`, as the arguments `output` and `force`."""
    force = click.option("--force", is_flag=True, help="Replace the output file if it is there.")
    output = click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Write to this file instead of the screen.",
    )
    return output(force(command))
