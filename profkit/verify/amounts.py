"""Limits and durations as people write them, on a command line or in a file."""

import math
import re

from ..errors import InputError

_NUMBER = r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_SHARE = re.compile(rf"{_NUMBER}\s*(%?)", re.ASCII)
_DURATION = re.compile(rf"{_NUMBER}\s*(s|min|h)?", re.ASCII)
_SECONDS = {None: 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST_S = 24 * 3600.0


def share_of_text(text: str) -> float:
    """`20%`, `20 %` or `0.2` as 0.2.

    Raises:
        InputError: anything else, or not above 0 and at most 1.
    """
    found = _SHARE.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text!r} is no share: write it as 5% or 0.05")
    number, sign = found.groups()
    value = float(number) / (100 if sign else 1)
    if not sign and value >= 1:
        # `1` may be meant as 1 % as well as 100 %.
        raise InputError(f"{text!r} could be {number}% or {number} times: write it as 5% or 0.05")
    if not 0 < value <= 1:
        raise InputError(f"{text!r} is out of range: give more than 0% and at most 100%")
    return value


def seconds_of_text(text: str) -> float:
    """`90`, `90s`, `1.5min` or `1h` in seconds.

    Raises:
        InputError: anything else, or not above 0 and at most a day.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text!r} is no duration: write it as 60s, 2min or 90 (seconds)")
    value = float(found[1]) * _SECONDS[found[2]]
    if not 0 < value <= _LONGEST_S or not math.isfinite(value):
        raise InputError(f"{text!r} is out of range: give more than 0s and at most 24h")
    return value
