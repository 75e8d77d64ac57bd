"""How this very profkit is started once more, in a process of its own."""

import sys
from collections.abc import Sequence
from pathlib import Path

from .target import Target

_ROOT = Path(__file__).parents[2]
_START = """\
import sys
if sys.path[:1] == [""]:
    del sys.path[0]
sys.path.insert(0, {root!r})
import profkit
del sys.path[0]
from profkit.cli import main
main("profkit")
"""
"""With `-m`, a `queue.py` in the working directory would be imported in place of the one that
profkit needs."""


def run_command(options: Sequence[str], target: Target) -> list[str]:
    """The command line of `profkit run` with these options."""
    kind = ["-m"] if target.kind == "module" else []
    start = [sys.executable, "-c", _START.format(root=str(_ROOT)), "run"]
    return [*start, *options, *kind, "--", target.name, *target.arguments]
