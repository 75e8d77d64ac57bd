"""Tells the user something beside the program's own output."""

import sys


def tell(text: str) -> None:
    """Write one printable line to stderr, if there still is one."""
    line = "".join(char if char.isprintable() else " " for char in text)
    try:
        sys.stderr.write(f"profkit: {line}\n")
        sys.stderr.flush()
    except Exception:  # closed, or replaced by who knows what: not worth a training run
        return
