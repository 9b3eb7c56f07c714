"""The numbers of one arm, for sentences: as text, and in bytes from the least to the most over seeds."""

from __future__ import annotations

from onebasin.report import units
from onebasin.report.arms import Arm, Section
from onebasin.report.typeset.pieces import Piece


def numbers_piece(section: Section, label: str) -> Piece | None:
    """None where the section has no such arm; targets are called as summaries call them, "0.84"."""
    arm = next((arm for arm in section.arms if arm.label == label), None)
    if arm is None:
        return None
    texts = {"seeds": units.plural(len(arm.finished), "seed")}
    spans = {kind: _span(arm, kind) for kind in ("total", "up", "down", "init", "align", "total_multicast")}
    for which in ("final", "best", "last10"):
        if spread := arm.accuracy(which):
            texts[which] = units.percent_text(spread.mean, spread.sd)
    if rounds := arm.measure("rounds"):
        texts["rounds"] = f"{rounds.mean:g}"
    if section.dataset_bytes:
        texts["data"] = units.byte_text(section.dataset_bytes)
    texts |= {kind: units.byte_range_text(*span) for kind, span in spans.items() if span}
    for target in section.targets:
        reached = [run.summary.get("bytes_to_target", {}).get(target) for run in arm.finished]
        known = [int(value) for value in reached if value is not None]
        span = (min(known), max(known)) if known and len(known) == len(reached) else None
        spans[target] = span
        texts[target] = units.byte_range_text(*span) if span else _partly(known, len(reached))
    return {"kind": "numbers", "texts": texts, "bytes": {name: span for name, span in spans.items() if span}}


def _span(arm: Arm, kind: str) -> tuple[int, int] | None:
    found = [run.summary.get("bytes", {}).get(kind) for run in arm.finished]
    known = [int(value) for value in found if value is not None]
    return (min(known), max(known)) if known and not arm.is_reference else None


def _partly(known: list[int], seeds: int) -> str:
    return f"{units.byte_range_text(min(known), max(known))} in {len(known)} of {seeds} seeds" if known else "never"
