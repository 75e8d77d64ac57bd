"""The only place that rounds: numbers to words."""

import re

from ..schema.findings import Estimate

_SIGNIFICANT = 3
ABSENT = "–"
"""Shown for what was not observed; a measured zero is shown as 0."""


def significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    text = f"{value:.{_SIGNIFICANT}g}"
    if "e" in text:
        text = f"{float(text):.12f}".rstrip("0") if abs(value) < 1 else f"{float(text):.0f}"
    return text


def milliseconds(nanoseconds: float) -> str:
    """Nanoseconds as a number of ms, without the unit: it stands in the column's head."""
    return significant(nanoseconds / 1e6)


def duration(nanoseconds: float) -> str:
    """Nanoseconds in the unit that reads best."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{significant(nanoseconds / size)} {unit}"
    return f"{significant(nanoseconds)} ns"


def percent(share: float) -> str:
    """A share of 0 to 1 in percent; what is not zero never reads as 0."""
    value = 100 * share
    if value == 0:
        return "0 %"
    if value < 0.1:
        return "< 0.1 %"
    return f"{value:.1f} %" if value < 10 else f"{value:.0f} %"


def percent_interval(share: Estimate) -> str:
    """A share and its interval, e.g. `93 % (92 to 94)`."""
    if share.low is None or share.high is None:
        return percent(share.value)
    low, high = (percent(max(0.0, end)).removesuffix(" %") for end in (share.low, share.high))
    if low == high:
        return percent(share.value)
    return f"{percent(share.value)} ({low} to {high})"


def times(ratio: Estimate) -> str:
    """A ratio and its interval, e.g. `17.5× (95 % interval 16.9 to 18.1)`."""
    text = f"{significant(ratio.value)}×"
    if ratio.low is None or ratio.high is None:
        return f"{text} (too few blocks for an interval)"
    return f"{text} (95 % interval {significant(ratio.low)} to {significant(ratio.high)})"


def binary_size(size_bytes: float) -> str:
    """A size in bytes in the binary unit that reads best."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size_bytes >= size:
            return f"{significant(size_bytes / size)} {unit}"
    return f"{size_bytes:.0f} B"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """A count and its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{ending}"


def one_line(text: str, limit: int = 120) -> str:
    """Text from outside as one printable line: no control characters, no endless names."""
    clean = re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
