"""How figures are written for people: bytes, shares, times, and a mean with its spread."""

from __future__ import annotations

import math

MISSING = "–"
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def byte_text(count: float | None) -> str:
    """Bytes in decimal units (1 kB = 1000 B) with three significant digits: 999 B, 4.81 MB."""
    if count is None:
        return MISSING
    size, unit = float(count), 0
    while unit < len(_BYTE_UNITS) - 1 and round(size, _decimals(size) if unit else 0) >= 1000:
        size, unit = size / 1000, unit + 1
    return f"{size:.{_decimals(size) if unit else 0}f} {_BYTE_UNITS[unit]}"


def _decimals(size: float) -> int:
    return 2 if size < 9.995 else 1 if size < 99.95 else 0


def byte_range_text(low: float, high: float) -> str:
    """Bytes from the least to the most over seeds: 43.4 to 58.1 kB."""
    least, most = byte_text(low), byte_text(high)
    if least == most:
        return most
    same_unit = least.split()[1] == most.split()[1]
    return f"{least.split()[0] if same_unit else least} to {most}"


def tick_text(count: float) -> str:
    """Bytes on an axis, without trailing zeros: 25 MB, 1.5 kB."""
    number, unit = byte_text(count).split()
    return f"{float(number):g} {unit}" if count else "0"


def percent_text(share: float | None, sd: float | None = None) -> str:
    """A share in [0, 1] as percent with one decimal, followed by its standard deviation where there is one."""
    if share is None:
        return MISSING
    return f"{100 * share:.1f}" if sd is None else f"{100 * share:.1f} ± {100 * sd:.1f}"


def target_text(target: str) -> str:
    """A target as it is written in a summary ("0.84") as percent ("84%")."""
    return f"{100 * float(target):.4g}%"


def times_text(ratio: float | None) -> str:
    """A ratio with two significant digits or more: 0.52×, 3.9×, 412×."""
    if ratio is None or not math.isfinite(ratio):
        return MISSING
    return f"{ratio:.2f}×" if ratio < 0.995 else f"{ratio:.1f}×" if ratio < 99.5 else f"{ratio:,.0f}×"


def ratio_words(saving: float) -> str:
    """A saving in words: 3.9× fewer, 1.2× more, or "as many" where the difference would not show."""
    if 0.95 < saving < 1.05:
        return "as many"
    return f"{times_text(saving)} fewer" if saving > 1 else f"{times_text(1 / saving)} more"


def seconds_text(seconds: float | None) -> str:
    """A duration: 0.8 s, 42 s, 3 min 20 s, 2 h 5 min."""
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
    """A counted noun: 1 seed, 3 seeds."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ranges_text(numbers: list[int], most: int = 6) -> str:
    """Sorted whole numbers with runs folded: 1–4, 7, 9; beyond `most` pieces the rest is counted."""
    pieces: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if pieces and number == pieces[-1][1] + 1:
            pieces[-1] = (pieces[-1][0], number)
        else:
            pieces.append((number, number))
    texts = [str(a) if a == b else f"{a}, {b}" if b == a + 1 else f"{a}–{b}" for a, b in pieces]
    if len(texts) <= most:
        return ", ".join(texts)
    return ", ".join(texts[:most]) + f" and {sum(b - a + 1 for a, b in pieces[most:])} more"
