"""The comparison table in the terminal, fitted to its width, and in Markdown."""

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

_COLUMN_GAP = 2
_MAX_HEADING_LENGTH = 11  # a longer heading may break into lines


@dataclass(frozen=True)
class Comparison:
    """One table for each task, fitted to the console that prints it.

    On a narrow console the least important columns are left out; the arm and its final accuracy are always shown.
    baseline: as in `comparison_table`.
    """

    sections: tuple[Section, ...]
    baseline: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table | str]:
        for number, section in enumerate(self.sections):
            if number:
                yield ""
            yield terminal_table(section, options.max_width, self.baseline)


def comparison_table(records: Sequence[RunRecord], baseline: str | None = None) -> Comparison:
    """Return the comparison of runs, which a rich console can print.

    baseline: the label of the arm against which savings are measured (default: FedAvg in fp32).
    Raises ReportError when there is no run, or no arm with the label `baseline`.
    """
    all_sections = tuple(sections(records))
    if baseline is not None:
        find_baseline([arm for section in all_sections for arm in section.arms], baseline)
    return Comparison(all_sections, baseline)


def markdown_table(section: Section, baseline: str | None = None) -> str:
    """Return a Markdown table with all columns of a section; `baseline` is as in `comparison_table`."""
    all_columns = columns(section, baseline)
    rows = [[_text_with_note(column.cell(arm)) for column in all_columns] for arm in section.arms]
    lines = [[column.heading for column in all_columns], ["---", *["---:"] * (len(all_columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines) + "\n"


COST_NOTE = "Means over finished runs; multicast: one downlink for all clients."
"""The note below a table with the columns of the group "cost"."""


def footnote(section: Section) -> str:
    """Return the note below the table: the size of the data, what was counted, and what (k/n) means."""
    size = section.dataset_bytes
    text = f"Training data, compressed: {byte_text(size)}. " if size else ""
    text += "Accuracy: mean ± sd over seeds. Bytes: unicast, all clients, headers included."
    costs = [arm.bytes_to_target(target) for arm in section.arms for target in section.targets]
    if any(0 < cost.reached < cost.n for cost in costs):
        text += " (k/n): k of n seeds reached the target; the mean is over those."
    return text


def _text_with_note(cell: Cell) -> str:
    return f"{cell.text} ({cell.note})" if cell.note else cell.text


def terminal_table(section: Section, width: int = 100, baseline: str | None = None) -> Table:
    """Return one section as a rich table that is at most `width` characters wide, if the names are short enough."""
    from rich.table import Table
    from rich.text import Text

    shown = _columns_that_fit(section, columns(section, baseline), width)
    table = Table(title=section.title, caption=footnote(section), box=None, padding=(0, _COLUMN_GAP, 0, 0))
    table.title_justify, table.caption_justify, table.pad_edge = "left", "left", False
    for index, column in enumerate(shown):
        heading = Text(textwrap.fill(column.heading, _column_width(section, column), break_long_words=False))
        table.add_column(heading, justify="right" if index else "left", no_wrap=index > 0, vertical="bottom")
    for arm in section.arms:
        row = [Text(column.cell(arm).text) for column in shown]
        if arm.unfinished:
            row[0].append(_unfinished_note(arm), style="yellow")
        if arm.is_reference:
            row = [row[0], *(Text(text.plain, style="dim") for text in row[1:])]
        table.add_row(*row)
    return table


def _columns_that_fit(section: Section, all_columns: list[Column], width: int) -> list[Column]:
    shown = list(all_columns)
    while sum(_column_width(section, column) + _COLUMN_GAP for column in shown) - _COLUMN_GAP > width:
        highest = max(column.removal_order for column in shown)
        if highest == 0:
            break
        shown.remove(next(column for column in reversed(shown) if column.removal_order == highest))
    return shown


def _column_width(section: Section, column: Column) -> int:
    """Return the width of a column in characters; its heading may break between words, but its cells may not."""
    texts = [column.cell(arm).text for arm in section.arms]
    if column.heading == ARM:
        texts = [text + _unfinished_note(arm) for text, arm in zip(texts, section.arms, strict=True)]
    heading_length = min(len(column.heading), _MAX_HEADING_LENGTH)
    return max([*map(len, column.heading.split()), *map(len, texts), heading_length])


def _unfinished_note(arm: Arm) -> str:
    return f" ({len(arm.unfinished)} unfinished)" if arm.unfinished else ""
