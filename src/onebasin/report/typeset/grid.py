"""Final accuracies as a grid: a row an arm, a column each combination of settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onebasin.report import units
from onebasin.report.aggregate import partition_text
from onebasin.report.arms import REFERENCE, Spread, kind_of
from onebasin.report.typeset.choosing import setting
from onebasin.report.typeset.pieces import Piece
from onebasin.report.typeset.plan import Grid

if TYPE_CHECKING:
    from onebasin.results.records import RunRecord

Place = tuple[Any, ...]


def grid_piece(runs: Sequence[RunRecord], plan: Grid) -> Piece:
    """Mean ± standard deviation over seeds, in percent; the best of each column that is no reference is strong."""
    scores: dict[str, dict[Place, list[float]]] = {}
    references = set()
    for run in runs:
        match = re.fullmatch(plan.row, run.label)
        row = plan.names.get(match[1], match[1]) if match else run.label
        accuracy = run.summary.get("accuracy", {}).get("final")
        if accuracy is not None:
            place = tuple(_order(run, key, plan) for key in plan.columns)
            scores.setdefault(row, {}).setdefault(place, []).append(accuracy)
            if kind_of(run) == REFERENCE:
                references.add(row)
    spreads = {
        row: {place: spread for place, values in cells.items() if (spread := Spread.of(values))}
        for row, cells in scores.items()
    }
    places = sorted({place for cells in spreads.values() for place in cells})
    best = {
        place: max(
            (cells[place].mean for row, cells in spreads.items() if row not in references and place in cells),
            default=None,
        )
        for place in places
    }
    rows = []
    for row in _ordered(spreads, list(plan.names.values()), references):
        cells = [
            _cell(spreads[row].get(place), best[place] if plan.best and row not in references else None)
            for place in places
        ]
        rows.append({"cells": [{"text": row, "note": ""}, *cells], "reference": row in references})
    return {
        "kind": "table",
        "head": ["accuracy, %", *(_heading(place, plan) for place in places)],
        "rows": rows,
        "note": "",
    }


def _order(run: RunRecord, key: str, plan: Grid) -> tuple[int, float, str]:
    """What a column sorts by: its place among the headings, its number, its text."""
    value = setting(run, key)
    text = partition_text(value) if isinstance(value, dict) else "" if value is None else str(value)
    number = float(value) if isinstance(value, int | float) else 0.0
    known = list(plan.headings)
    return (known.index(text) if text in known else len(known), number, text)


def _heading(place: Place, plan: Grid) -> str:
    words = [
        form.replace("{}", plan.headings.get(text, text))
        for form, (_, _, text) in zip(plan.columns.values(), place, strict=True)
    ]
    return ", ".join(word for word in words if word)


def _ordered(spreads: Mapping[str, Mapping[Place, Spread]], first: list[str], references: set[str]) -> list[str]:
    """The rows that are named, in that order; then the others, references first, by their mean."""

    def place(row: str) -> tuple[int, bool, float]:
        means = [spread.mean for spread in spreads[row].values()]
        return (first.index(row) if row in first else len(first), row not in references, -sum(means) / len(means))

    return sorted(spreads, key=place)


def _cell(spread: Spread | None, best: float | None) -> Piece:
    if spread is None:
        return {"text": "", "note": ""}
    strong = best is not None and round(spread.mean, 3) == round(best, 3)
    return {"text": units.percent_text(spread.mean, spread.sd), "note": "", "strong": strong}
