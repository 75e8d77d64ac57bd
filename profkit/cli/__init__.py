"""The command line: one file a command; only here errors become exit codes."""

import os
import sys

import click

from .. import __version__
from ..errors import ProfkitError
from .check import check
from .compare import compare
from .doctor import doctor
from .report import report
from .run import run
from .trace import trace
from .tune import tune
from .view import view
from .what_if import what_if

EXIT_ERROR = 2
"""Bad input or a place that cannot be used; 1 is kept for regressions."""
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="profkit")
def cli() -> None:
    """Say which part of a PyTorch training step costs the time, and why.

    Example: profkit trace --stage dataloader
    """


for _command in (trace, run, check, report, compare, what_if, tune, view, doctor):
    cli.add_command(_command)


def main(program: str | None = None) -> None:
    """Run the command line; errors are one line on stderr."""
    try:
        result = cli.main(prog_name=program, standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message())
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "profkit"
        _fail(f"{' '.join(error.format_message().split())} (see {path} --help)")
    except BrokenPipeError:
        # Whoever read the output has seen enough; do not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except OSError as error:
        _fail(f"{error}: free the place or choose another one")
    except ProfkitError as error:
        _fail(" ".join(str(error).split()))
    except (KeyboardInterrupt, click.Abort):
        click.echo("profkit: interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(result if isinstance(result, int) else 0)


def _fail(message: str) -> None:
    # Messages name files, and what stands in them.
    line = "".join(char if char.isprintable() else " " for char in message)
    click.echo(f"profkit: error: {line}", err=True)
    sys.exit(EXIT_ERROR)
