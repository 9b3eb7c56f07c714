"""Pieces of a document: a figure as SVG, a table or a few numbers as JSON. Typst lays them out, and evaluates nothing.

A piece is a mapping with a `kind`: `plot` (file, inches, caption, key), `table` (head, rows, note).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onebasin.report import units
from onebasin.report.arms import Section
from onebasin.report.bars import BYTES_CAPTION, bytes_figure
from onebasin.report.columns import Cell, Column
from onebasin.report.curves import FRONTIER_CAPTION, ROUNDS_CAPTION, frontier_figure, rounds_figure
from onebasin.report.figures import save_svg
from onebasin.report.holdings import section_holdings
from onebasin.report.plot_style import Look, looks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Piece = dict[str, Any]
PlotName = Literal["frontier", "rounds", "bytes", "holdings"]
_LONGEST = 120
_MOST_BARS = 14  # more could not be read on a slide


def section_plot(name: PlotName, section: Section, file: Path, look: Mapping[str, Look] | None = None) -> Piece | None:
    """One of the figures of a section, saved as `file`; None where there is nothing to draw."""
    look = look or looks(section.arms)
    match name:
        case "frontier":
            figure = frontier_figure(section, look, key=False)
            return plot(figure, file, FRONTIER_CAPTION, _key(section, look))
        case "rounds":
            return plot(rounds_figure(section, look, key=False), file, ROUNDS_CAPTION, _key(section, look))
        case "bytes":
            bars = bytes_figure(replace(section, arms=section.arms[:_MOST_BARS]))
            rest = len(section.arms) - _MOST_BARS
            caption = (
                f"{BYTES_CAPTION} The first {_MOST_BARS} of {len(section.arms)} arms." if rest > 0 else BYTES_CAPTION
            )
            return plot(bars, file, caption) if bars else None
        case "holdings":
            held = section_holdings(section)
            return plot(held[0], file, held[1]) if held else None


def plot(figure: Figure, file: Path, caption: str, key: Sequence[Piece] = ()) -> Piece:
    """A figure; its key is set by typst, in the size of the text."""
    save_svg(figure, file)
    width, height = (float(side) for side in figure.get_size_inches())
    return {"kind": "plot", "file": file.name, "width": width, "height": height, "caption": caption, "key": list(key)}


def key_entry(label: str, look: Look, note: str = "") -> Piece:
    """How an arm is drawn, its name, and what is said of it."""
    return {
        "label": _short(label),
        "colour": look.colour,
        "marker": look.marker,
        "dashes": list(look.dashes),
        "note": note,
    }


def table(head: Sequence[str], rows: Sequence[tuple[Sequence[Cell], bool]], note: str = "") -> Piece:
    """A table; each row comes with whether it is a reference."""
    lines = [
        {"cells": [{"text": _short(cell.text), "note": cell.note} for cell in cells], "reference": reference}
        for cells, reference in rows
    ]
    return {"kind": "table", "head": list(head), "rows": lines, "note": note}


def section_table(section: Section, shown: Sequence[Column], note: str = "") -> Piece:
    """The arms of a section, a row each."""
    rows = [([column.cell(arm) for column in shown], arm.is_reference) for arm in section.arms]
    return table([column.heading for column in shown], rows, note)


def _short(text: str) -> str:
    """A name that leaves room for others: arms of one label are told apart by all the settings in which they differ."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _key(section: Section, look: Mapping[str, Look]) -> list[Piece]:
    """Names of the curves, best first, with final accuracy and bytes; references are named in the figure itself."""
    entries = []
    for arm in section.arms:
        if not arm.is_reference:
            accuracy, total = arm.accuracy(), arm.bytes()
            note = f"{units.percent_text(accuracy.mean)}%" if accuracy else "unfinished"
            entries.append(
                key_entry(arm.label, look[arm.label], note + (f" · {units.byte_text(total.mean)}" if total else ""))
            )
    return entries
