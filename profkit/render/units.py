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


def signed_milliseconds(nanoseconds: float) -> str:
    """A change of a time as a number of ms, without the unit, e.g. `+3.1`."""
    return _sign(nanoseconds) + milliseconds(abs(nanoseconds))


def signed_percent(share: float) -> str:
    """A change in percent, e.g. `−0.4 %`; what rounds to nothing has no sign."""
    text = f"{100 * abs(share):.1f}" if abs(share) < 0.0995 else f"{100 * abs(share):.0f}"
    return "0 %" if float(text) == 0 else f"{_sign(share)}{text} %"


def relative_change(ratio: Estimate) -> str:
    """What a ratio of times says, e.g. `+12 % (95 % interval +9.0 to +15 %)`.

    From half or twice on in times, since percents of a slow-down read as if they were more.
    """
    value, low, high = ratio.value, ratio.low, ratio.high
    if 0.5 < value < 2:
        text = signed_percent(value - 1)
        if low is None or high is None:
            return f"{text} (too few blocks for an interval)"
        ends = signed_percent(low - 1).removesuffix(" %"), signed_percent(high - 1)
        return f"{text} (95 % interval {ends[0]} to {ends[1]})"
    word = "as long" if value >= 1 else "as fast"
    if value < 1:
        value, low, high = 1 / value, high and 1 / high, low and 1 / low
    text = f"{significant(value)} times {word}"
    if low is None or high is None:
        return f"{text} (too few blocks for an interval)"
    return f"{text} (95 % interval {significant(low)} to {significant(high)})"


def plain_ratio(ratio: Estimate) -> str:
    """A ratio with its interval for a cell, e.g. `1.123 (1.091 to 1.156)`."""
    if ratio.low is None or ratio.high is None:
        return _ratio_number(ratio.value)
    ends = f"{_ratio_number(ratio.low)} to {_ratio_number(ratio.high)}"
    return f"{_ratio_number(ratio.value)} ({ends})"


def _ratio_number(value: float) -> str:
    """Near 1 what counts is the distance to it."""
    return f"{value:.3f}" if 0.5 <= value < 2 else significant(value)


def _sign(value: float) -> str:
    return "−" if value < 0 else "+" if value > 0 else ""


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
