"""Tells the user something beside the program's own output."""

import sys


def tell(text: str) -> None:
    """Write one line to stderr, if there still is one."""
    try:
        sys.stderr.write(f"profkit: {text}\n")
        sys.stderr.flush()
    except Exception:  # closed, or replaced by who knows what: not worth a training run
        return
