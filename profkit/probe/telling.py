"""Tells the user something beside the program's own output."""

import sys

from ..interruption import pass_on


def tell(text: str) -> None:
    """Write one printable line to stderr, if there still is one."""
    line = "".join(char if char.isprintable() else " " for char in text)
    try:
        sys.stderr.write(f"profkit: {line}\n")
        sys.stderr.flush()
    except Exception as error:  # closed, or replaced by who knows what: not worth a training run
        pass_on(error)
