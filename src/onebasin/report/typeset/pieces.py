"""Pieces of a document: figures as SVG files, tables and numbers as JSON data. Typst lays them out as plain data.

A piece is a mapping with a `kind`. A `plot` has file, width and height (inches), caption and key (the legend). A
`table` has head, rows and note.
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
from onebasin.report.plot_style import ArmStyle, arm_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Piece = dict[str, Any]
PlotName = Literal["frontier", "rounds", "bytes", "holdings"]
_MAX_LABEL_LENGTH = 120
_MAX_BARS = 14  # more would be unreadable on a slide


def section_plot(name: PlotName, section: Section, file: Path) -> Piece | None:
    """Save a figure of a section as the SVG file `file`, and return its piece; None when there is nothing to draw."""
    styles = arm_styles(section.arms)
    match name:
        case "frontier":
            figure = frontier_figure(section, styles, legend=False)
            return plot_piece(figure, file, FRONTIER_CAPTION, _legend(section, styles))
        case "rounds":
            figure = rounds_figure(section, styles, legend=False)
            return plot_piece(figure, file, ROUNDS_CAPTION, _legend(section, styles))
        case "bytes":
            bars = bytes_figure(replace(section, arms=section.arms[:_MAX_BARS]))
            rest = len(section.arms) - _MAX_BARS
            caption = (
                f"{BYTES_CAPTION} The first {_MAX_BARS} of {len(section.arms)} arms." if rest > 0 else BYTES_CAPTION
            )
            return plot_piece(bars, file, caption) if bars else None
        case "holdings":
            holdings = section_holdings(section)
            return plot_piece(holdings[0], file, holdings[1]) if holdings else None


def plot_piece(figure: Figure, file: Path, caption: str, legend: Sequence[Piece] = ()) -> Piece:
    """Save a figure as the SVG file `file`, and return its piece; typst draws the legend, in the size of the text."""
    save_svg(figure, file)
    width, height = (float(side) for side in figure.get_size_inches())
    size = {"width": width, "height": height}
    return {"kind": "plot", "file": file.name, **size, "caption": caption, "key": list(legend)}


def legend_entry(label: str, style: ArmStyle, note: str = "") -> Piece:
    """Return an arm's label and style, and a note that is shown beside the label."""
    return {
        "label": _shorten(label),
        "colour": style.colour,
        "marker": style.marker,
        "dashes": list(style.dashes),
        "note": note,
    }


def section_table(section: Section, columns: Sequence[Column], note: str = "") -> Piece:
    """Return a table of these columns with a row for each arm of a section."""
    rows = [
        {"cells": [_cell(column.cell(arm)) for column in columns], "reference": arm.is_reference}
        for arm in section.arms
    ]
    return {"kind": "table", "head": [column.heading for column in columns], "rows": rows, "note": note}


def _cell(cell: Cell) -> Piece:
    return {"text": _shorten(cell.text), "note": cell.note}


def _shorten(text: str) -> str:
    """Cut a text that is too long: a label with all settings in which arms of one name differ may be very long."""
    return text if len(text) <= _MAX_LABEL_LENGTH else text[: _MAX_LABEL_LENGTH - 1] + "…"


def _legend(section: Section, styles: Mapping[str, ArmStyle]) -> list[Piece]:
    """Return the legend of the curves, best arm first, with final accuracy and bytes, without references.

    The figure itself names the references.
    """
    entries = []
    for arm in section.arms:
        if not arm.is_reference:
            accuracy, total = arm.accuracy(), arm.bytes()
            note = f"{units.percent_text(accuracy.mean)}%" if accuracy else "unfinished"
            note += f" · {units.byte_text(total.mean)}" if total else ""
            entries.append(legend_entry(arm.label, styles[arm.label], note))
    return entries
