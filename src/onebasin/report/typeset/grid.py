"""A table of final accuracies with a row for each arm and a column for each combination of settings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from onebasin.report import units
from onebasin.report.aggregate import partition_text
from onebasin.report.arms import REFERENCE, Spread, kind_of
from onebasin.report.typeset.pieces import Piece
from onebasin.report.typeset.plan import Grid
from onebasin.report.typeset.run_selection import setting

if TYPE_CHECKING:
    from onebasin.results.records import RunRecord

Column = tuple[tuple[int, float, str], ...]
"""One sort key for each setting of the grid's columns, see `_sort_key`."""


def grid_piece(runs: Sequence[RunRecord], plan: Grid) -> Piece:
    """Return a table of accuracies in percent, mean ± standard deviation over seeds.

    The best accuracy of each column, references excluded, is emphasised if `plan.best`.
    """
    accuracies: dict[str, dict[Column, list[float]]] = {}
    references = set()
    for run in runs:
        match = re.fullmatch(plan.row, run.label)
        row = plan.names.get(match[1], match[1]) if match else run.label
        accuracy = run.summary.get("accuracy", {}).get("final")
        if accuracy is not None:
            column = tuple(_sort_key(run, key, plan) for key in plan.columns)
            accuracies.setdefault(row, {}).setdefault(column, []).append(accuracy)
            if kind_of(run) == REFERENCE:
                references.add(row)
    spreads = {
        row: {column: spread for column, values in cells.items() if (spread := Spread.of(values))}
        for row, cells in accuracies.items()
    }
    columns = sorted({column for cells in spreads.values() for column in cells})
    best = {
        column: max(
            (cells[column].mean for row, cells in spreads.items() if row not in references and column in cells),
            default=None,
        )
        for column in columns
    }
    rows = []
    for row in _sorted_rows(spreads, list(plan.names.values()), references):
        cells = [
            _cell(spreads[row].get(column), best[column] if plan.best and row not in references else None)
            for column in columns
        ]
        rows.append({"cells": [{"text": row, "note": ""}, *cells], "reference": row in references})
    return {
        "kind": "table",
        "head": ["accuracy, %", *(_heading(column, plan) for column in columns)],
        "rows": rows,
        "note": "",
    }


def _sort_key(run: RunRecord, key: str, plan: Grid) -> tuple[int, float, str]:
    """Return the sort key of a setting's value: its index in `plan.headings`, its number, its text."""
    value = setting(run, key)
    text = partition_text(value) if isinstance(value, dict) else "" if value is None else str(value)
    number = float(value) if isinstance(value, int | float) else 0.0
    known = list(plan.headings)
    return (known.index(text) if text in known else len(known), number, text)


def _heading(column: Column, plan: Grid) -> str:
    parts = [
        template.replace("{}", plan.headings.get(text, text))
        for template, (_, _, text) in zip(plan.columns.values(), column, strict=True)
    ]
    return ", ".join(part for part in parts if part)


def _sorted_rows(spreads: Mapping[str, Mapping[Column, Spread]], first: list[str], references: set[str]) -> list[str]:
    """Return the rows in `first`, in that order; then the others, references first, in descending order of mean."""

    def position(row: str) -> tuple[int, bool, float]:
        means = [spread.mean for spread in spreads[row].values()]
        return (first.index(row) if row in first else len(first), row not in references, -sum(means) / len(means))

    return sorted(spreads, key=position)


def _cell(spread: Spread | None, best: float | None) -> Piece:
    if spread is None:
        return {"text": "", "note": ""}
    strong = best is not None and round(spread.mean, 3) == round(best, 3)
    return {"text": units.percent_text(spread.mean, spread.sd), "note": "", "strong": strong}
