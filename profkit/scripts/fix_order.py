"""Which fixes a process is told to apply, on its command line."""

from collections.abc import Sequence

import msgspec

from ..schema.fix import FixOrder

OPTION = "--fixes"


def fix_options(order: FixOrder | None) -> Sequence[str]:
    """Options of `profkit run` for an order."""
    return () if order is None else (OPTION, msgspec.json.encode(order).decode())


def read_fixes(text: str | None) -> FixOrder | None:
    """The order that an option holds."""
    return None if text is None else msgspec.json.decode(text, type=FixOrder)
