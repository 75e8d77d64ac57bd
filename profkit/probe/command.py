"""The command line of a run, fit for a report."""

import re
from collections.abc import Sequence
from pathlib import Path

_SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)


def shown_command(arguments: Sequence[str]) -> str:
    """A command line fit for a report: no directories of this machine, no secrets."""
    return printable(" ".join(shown_arguments(arguments)))


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """The same, argument by argument."""
    shown = []
    hide_next = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        is_secret = argument.startswith("-") and _SECRET.search(name) is not None
        if hide_next:
            shown.append("***")
        elif equals and is_secret:
            shown.append(f"{name}=***")
        elif equals:
            shown.append(f"{name}={_last_part(value)}")
        else:
            shown.append(_last_part(argument))
        hide_next = is_secret and not equals
    return shown


def printable(text: str) -> str:
    """Text from a command line without what only stands for undecodable bytes."""
    return text.encode("utf-8", "replace").decode()


def _last_part(argument: str) -> str:
    return Path(argument).name if Path(argument).is_absolute() else argument
