"""The comparison as a table: in the terminal, fitted to its width, and in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from onebasin.report.aggregate import Arm, Section, sections
from onebasin.report.columns import ARM, Cell, Column, columns
from onebasin.report.units import byte_text

if TYPE_CHECKING:
    from rich.table import Table

    from onebasin.results.records import RunRecord

_BETWEEN = 2


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
    """What a reader of the table needs beside it: the size of the data, what was counted, what k/n means."""
    size = section.dataset_bytes
    said = f"Training data, compressed: {byte_text(size)}. " if size else ""
    said += "Accuracy: mean ± sd over seeds. Bytes: unicast, all clients, headers included."
    reaches = [arm.bytes_to(target) for arm in section.arms for target in section.targets]
    if any(0 < reach.reached < reach.n for reach in reaches):
        said += " (k/n): k of n seeds reached the target; the mean is over those."
    return said


def _in_full(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def _terminal_table(section: Section, width: int, baseline: str | None) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = _fitting(section, columns(section, baseline), width)
    table = Table(title=section.title, caption=footnote(section), box=None, padding=(0, _BETWEEN, 0, 0))
    table.title_justify, table.caption_justify, table.pad_edge = "left", "left", False
    for place, column in enumerate(shown):
        heading = Text(textwrap.fill(column.heading, _width(section, column), break_long_words=False))
        table.add_column(heading, justify="right" if place else "left", no_wrap=place > 0, vertical="bottom")
    for arm in section.arms:
        row = [Text(column.cell(arm).text) for column in shown]
        if arm.unfinished:
            row[0].append(_pending(arm), style="yellow")
        if arm.is_reference:
            row = [row[0], *(Text(text.plain, style="dim") for text in row[1:])]
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
    if column.heading == ARM:
        texts = [text + _pending(arm) for text, arm in zip(texts, section.arms, strict=True)]
    return max(map(len, [*column.heading.split(), *texts]))


def _pending(arm: Arm) -> str:
    return f" ({len(arm.unfinished)} unfinished)" if arm.unfinished else ""
