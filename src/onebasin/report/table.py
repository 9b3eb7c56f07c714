"""The comparison as a table: in the terminal, fitted to its width, and in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebasin.report.aggregate import sections
from onebasin.report.arms import Arm, Section
from onebasin.report.baseline import find_baseline
from onebasin.report.columns import ARM, Cell, Column, columns
from onebasin.report.units import byte_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.table import Table

    from onebasin.results.records import RunRecord

_BETWEEN = 2
_HEADING = 11  # headings longer than this may break


@dataclass(frozen=True)
class Comparison:
    """One table a task, fitted to the console that prints it.

    Columns give way in order of importance where the console is narrow: the arm and its final accuracy always stay.
    """

    sections: tuple[Section, ...]
    baseline: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        for place, section in enumerate(self.sections):
            if place:
                yield ""
            yield terminal_table(section, options.max_width, self.baseline)


def comparison_table(records: Sequence[RunRecord], baseline: str | None = None) -> Comparison:
    """The comparison of runs, to be printed by a rich console.

    baseline: the label of the arm that savings are measured against; left out, FedAvg in fp32.
    Raises ReportError when there is no run, or no arm called `baseline`.
    """
    found = tuple(sections(records))
    if baseline is not None:
        find_baseline([arm for section in found for arm in section.arms], baseline)
    return Comparison(found, baseline)


def markdown_table(section: Section, baseline: str | None = None) -> str:
    """Every column of a section as a Markdown table."""
    shown = columns(section, baseline)
    rows = [[_in_full(column.cell(arm)) for column in shown] for arm in section.arms]
    lines = [[column.heading for column in shown], ["---", *["---:"] * (len(shown) - 1)], *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines) + "\n"


COST_NOTE = "Means over finished runs; multicast: one downlink for all clients."
"""What a reader needs beside the columns of costs."""


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


def terminal_table(section: Section, width: int = 100, baseline: str | None = None) -> Table:
    """One section as a rich table no wider than `width` characters where its names allow."""
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
    return max([*map(len, column.heading.split()), *map(len, texts), min(len(column.heading), _HEADING)])


def _pending(arm: Arm) -> str:
    return f" ({len(arm.unfinished)} unfinished)" if arm.unfinished else ""
