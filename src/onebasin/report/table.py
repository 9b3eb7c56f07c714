"""The comparison as a table: in the terminal, fitted to its width, and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from onebasin.report.aggregate import Section, sections
from onebasin.report.columns import Cell, Column, columns
from onebasin.report.units import MISSING, byte_text

if TYPE_CHECKING:
    from rich.table import Table

    from onebasin.results.records import RunRecord

_EDGES, _BETWEEN = 0, 2


def comparison_tables(records: Sequence[RunRecord], width: int = 100, baseline: str | None = None) -> list[Table]:
    """One rich table a task, no wider than `width` characters where its names allow.

    Columns give way in order of importance: the arm and its final accuracy always stay.
    Raises ReportError when there is no run, or no arm called `baseline`.
    """
    return [_terminal_table(section, width, baseline) for section in sections(records)]


def markdown_table(section: Section, baseline: str | None = None) -> str:
    """Every column of a section as a Markdown table."""
    shown = columns(section, baseline)
    rows = [[_in_full(column.cell(arm)) for column in shown] for arm in section.arms]
    lines = [[column.heading for column in shown], ["---", *["---:"] * (len(shown) - 1)], *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines) + "\n"


def footnote(section: Section) -> str:
    """What a reader of the table needs beside it: the size of the data, and what was counted."""
    size = section.dataset_bytes
    data = f"Training data, compressed: {byte_text(size)}. " if size else ""
    return data + "Accuracy: mean ± sd over seeds. Bytes: unicast, all clients, headers included."


def _in_full(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _terminal_table(section: Section, width: int, baseline: str | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = _fitting(section, columns(section, baseline), width)
    table = Table(title=section.title, caption=footnote(section), box=None, padding=(0, _BETWEEN, 0, 0))
    table.title_justify, table.caption_justify, table.pad_edge = "left", "left", False
    for place, column in enumerate(shown):
        justify = "right" if place else "left"
        table.add_column(Text(column.heading), justify=justify, no_wrap=False, overflow="fold", vertical="bottom")
    for arm in section.arms:
        row = [Text(column.cell(arm).text) for column in shown]
        if arm.unfinished:
            row[0].append(f" [{len(arm.unfinished)} unfinished]", style="yellow")
        if arm.is_reference:
            row = [text if text.plain == MISSING else Text(text.plain, style="dim") for text in row]
        table.add_row(*row)
    return table


def _fitting(section: Section, offered: list[Column], width: int) -> list[Column]:
    shown = list(offered)
    while sum(_width(section, column) + _BETWEEN for column in shown) - _BETWEEN > width:
        rank = max(column.rank for column in shown)
        if rank == 0:
            break
        shown.remove(next(column for column in reversed(shown) if column.rank == rank))
    return shown


def _width(section: Section, column: Column) -> int:
    """The width of a column whose heading may break between words but whose cells may not."""
    texts = [column.cell(arm).text for arm in section.arms]
    if column.rank == 0 and any(arm.unfinished for arm in section.arms) and column.heading == "arm":
        texts += [f"{arm.label} [{len(arm.unfinished)} unfinished]" for arm in section.arms if arm.unfinished]
    return max(map(len, [*column.heading.split(), *texts]))
