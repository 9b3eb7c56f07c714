"""The numbers of one arm, for use in sentences: as text, and as ranges of bytes over seeds."""

from __future__ import annotations

from onebasin.report import units
from onebasin.report.arms import Arm, Section
from onebasin.report.typeset.pieces import Piece


def numbers_piece(section: Section, label: str) -> Piece | None:
    """Return the numbers of the arm with this label; None when the section has no such arm.

    `texts` has accuracies, rounds, seeds and bytes in words; `bytes` has (minimum, maximum) over seeds. The bytes to a
    target accuracy are under its key in the summary, such as "0.84".
    """
    arm = next((arm for arm in section.arms if arm.label == label), None)
    if arm is None:
        return None
    texts = {"seeds": units.plural(len(arm.finished), "seed")}
    ranges = {kind: _byte_range(arm, kind) for kind in ("total", "up", "down", "init", "align", "total_multicast")}
    for which in ("final", "best", "last10"):
        if spread := arm.accuracy(which):
            texts[which] = units.percent_text(spread.mean, spread.sd)
    if rounds := arm.summary_value("rounds"):
        texts["rounds"] = f"{rounds.mean:g}"
    if section.dataset_bytes:
        texts["data"] = units.byte_text(section.dataset_bytes)
    texts |= {kind: units.byte_range_text(*limits) for kind, limits in ranges.items() if limits}
    for target in section.targets:
        costs = [run.summary.get("bytes_to_target", {}).get(target) for run in arm.finished]
        reached = [int(cost) for cost in costs if cost is not None]
        limits = (min(reached), max(reached)) if reached and len(reached) == len(costs) else None
        ranges[target] = limits
        texts[target] = units.byte_range_text(*limits) if limits else _partly_reached(reached, len(costs))
    return {"kind": "numbers", "texts": texts, "bytes": {name: limits for name, limits in ranges.items() if limits}}


def _byte_range(arm: Arm, kind: str) -> tuple[int, int] | None:
    """Return the minimum and the maximum over seeds of the bytes of one kind; None for a reference."""
    counts = [run.summary.get("bytes", {}).get(kind) for run in arm.finished]
    known = [int(count) for count in counts if count is not None]
    return (min(known), max(known)) if known and not arm.is_reference else None


def _partly_reached(costs: list[int], seeds: int) -> str:
    """Return the bytes to a target that only some seeds, or none, reached."""
    return f"{units.byte_range_text(min(costs), max(costs))} in {len(costs)} of {seeds} seeds" if costs else "never"
