"""Conversion of quantities to text: bytes, percentages, ratios, durations, and a mean with its standard deviation."""

from __future__ import annotations

import math

MISSING = "–"
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def byte_text(count: float | None) -> str:
    """Return bytes in decimal units (1 kB = 1000 B) with three significant digits: 999 B, 4.81 MB."""
    if count is None:
        return MISSING
    size, unit = float(count), 0
    while unit < len(_BYTE_UNITS) - 1 and round(size, _decimals(size) if unit else 0) >= 1000:
        size, unit = size / 1000, unit + 1
    return f"{size:.{_decimals(size) if unit else 0}f} {_BYTE_UNITS[unit]}"


def _decimals(size: float) -> int:
    return 2 if size < 9.995 else 1 if size < 99.95 else 0


def byte_range_text(low: float, high: float) -> str:
    """Return a range of bytes, such as the minimum and the maximum over seeds: 43.4 to 58.1 kB."""
    low_text, high_text = byte_text(low), byte_text(high)
    if low_text == high_text:
        return high_text
    same_unit = low_text.split()[1] == high_text.split()[1]
    return f"{low_text.split()[0] if same_unit else low_text} to {high_text}"


def tick_text(count: float) -> str:
    """Return bytes as the label of a tick, without trailing zeros: 25 MB, 1.5 kB."""
    number, unit = byte_text(count).split()
    return f"{float(number):g} {unit}" if count else "0"


def percent_text(share: float | None, sd: float | None = None) -> str:
    """Return a share in [0, 1] in percent with one decimal, followed by its standard deviation if there is one."""
    if share is None:
        return MISSING
    return f"{100 * share:.1f}" if sd is None else f"{100 * share:.1f} ± {100 * sd:.1f}"


def target_text(target: str) -> str:
    """Return a target accuracy, a key of a summary such as "0.84", in percent: 84%."""
    return f"{100 * float(target):.4g}%"


def times_text(ratio: float | None) -> str:
    """Return a ratio with two significant digits or more: 0.52×, 3.9×, 412×."""
    if ratio is None or not math.isfinite(ratio):
        return MISSING
    return f"{ratio:.2f}×" if ratio < 0.995 else f"{ratio:.1f}×" if ratio < 99.5 else f"{ratio:,.0f}×"


def ratio_words(saving: float) -> str:
    """Return a saving in words: 3.9× fewer, 1.2× more, or "as many" when the difference is below 5%."""
    if 0.95 < saving < 1.05:
        return "as many"
    return f"{times_text(saving)} fewer" if saving > 1 else f"{times_text(1 / saving)} more"


def seconds_text(seconds: float | None) -> str:
    """Return a duration in its usual units: 0.8 s, 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 seed, 3 seeds."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ranges_text(numbers: list[int], max_ranges: int = 6) -> str:
    """Return sorted integers as ranges: 1–4, 7, 9. Beyond `max_ranges` ranges, the remaining numbers are counted."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    texts = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in ranges]
    if len(texts) <= max_ranges:
        return ", ".join(texts)
    return ", ".join(texts[:max_ranges]) + f" and {sum(b - a + 1 for a, b in ranges[max_ranges:])} more"
