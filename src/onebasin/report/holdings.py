"""The figure of a run's holdings: the number of training examples of each class at each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onebasin.report import units
from onebasin.report.arms import ReportError, Section, seed_of
from onebasin.report.figures import new_figure
from onebasin.report.plot_style import light_colour, plot_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_BUBBLE_CLIENTS = 40
_WIDTH, _RIGHT_MARGIN, _TOTALS_HEIGHT = 8.75, 0.2, 0.55  # inches


def holdings_figure(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Draw the number of examples of each class at each client, with each client's total above.

    The numbers are bubbles with proportional areas, or shaded cells if there are more than forty clients.

    classes: k names. counts: [clients, k].
    Raises ReportError when there is no class or no client, or when a row of `counts` does not have k entries.
    """
    table = _count_table(classes, counts)
    clients, rows = table.shape
    with plot_settings():
        left = 0.5 + 0.072 * max([len(name) for name in classes] + [8])
        available = _WIDTH - left - _RIGHT_MARGIN
        column_width = min(available / max(clients, 1), 0.42)
        row_height = max(0.14, min(0.3, column_width)) if rows <= 30 else max(0.06, 4.5 / rows)
        height = 0.55 + rows * row_height + 0.14 + _TOTALS_HEIGHT + 0.3
        width = left + max(column_width * clients, 2.6) + _RIGHT_MARGIN
        figure = new_figure(width, height)
        span = column_width * clients / width
        matrix = figure.add_axes((left / width, 0.5 / height, span, rows * row_height / height))
        totals = figure.add_axes((left / width, (0.64 + rows * row_height) / height, span, _TOTALS_HEIGHT / height))
        if clients <= _MAX_BUBBLE_CLIENTS:
            _draw_bubbles(matrix, table, min(column_width, row_height))
        else:
            _draw_cells(matrix, table)
        _format_matrix(matrix, classes, clients, row_height, column_width)
        _draw_totals(totals, table.sum(axis=1))
        largest = "largest bubble" if clients <= _MAX_BUBBLE_CLIENTS else "darkest cell"
        note = f"{largest}: {units.plural(int(table.max()), 'example')}"
        position = {"x": 1 - _RIGHT_MARGIN / width, "y": 0.12 / height}
        figure.text(**position, s=note, ha="right", va="center", fontsize=8.5, color=light_colour("muted"))
        return figure


def section_holdings(section: Section) -> tuple[Figure, str] | None:
    """Return the figure of the holdings for a task's first seed, and its caption.

    The caption states whether the holdings differ between seeds. None when no run has recorded its holdings.
    """
    recorded = [run for run in section.runs if run.holdings.get("classes") and run.holdings.get("counts")]
    if not recorded:
        return None
    # Pooled training records a single client, so only runs with the most clients show the partition.
    clients = max(len(run.holdings["counts"]) for run in recorded)
    partitioned = [run for run in recorded if len(run.holdings["counts"]) == clients]
    first = min(partitioned, key=lambda run: (seed_of(run) is None, seed_of(run)))
    differ = any(run.holdings != first.holdings for run in partitioned)
    seeds = f"Seed {seed_of(first)}; other seeds divide the data anew." if differ else "The same for every run."
    figure = holdings_figure([str(label) for label in first.holdings["classes"]], first.holdings["counts"])
    return figure, f"Training examples of each class with each client. {seeds}"


def _count_table(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the counts as an array [clients, classes]."""
    if not classes or not counts:
        raise ReportError(f"holdings: {len(classes)} classes and {len(counts)} clients; expected one or more of each")
    for client, row in enumerate(counts):
        if len(row) != len(classes):
            raise ReportError(f"holdings: client {client} has {len(row)} counts for {len(classes)} classes")
    return np.asarray(counts, dtype=np.int64)


def _draw_bubbles(axes: Axes, table: NDArray[np.int64], cell_inches: float) -> None:
    client, label = np.nonzero(table)
    largest_diameter = cell_inches * 72 * 0.94  # in points
    sizes = (largest_diameter**2) * table[client, label] / max(int(table.max()), 1)
    axes.scatter(client, label, s=np.maximum(sizes, 0.8), color=light_colour("bubble"), lw=0)


def _draw_cells(axes: Axes, table: NDArray[np.int64]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    client, label = np.nonzero(table)
    # The square root keeps the small counts of a skewed partition visible.
    shade = np.sqrt(table[client, label] / max(int(table.max()), 1))
    boxes = [Rectangle((x - 0.46, y - 0.44), 0.92, 0.88) for x, y in zip(client, label, strict=True)]
    axes.add_collection(PatchCollection(boxes, facecolor=light_colour("bubble"), alpha=0.08 + 0.92 * shade, lw=0))


def _format_matrix(axes: Axes, classes: Sequence[str], clients: int, row_height: float, column_width: float) -> None:
    """Label classes and clients; where rows or columns (sizes in inches) are too narrow, only some of them."""
    class_step = 1 if row_height >= 0.13 else int(np.ceil(0.13 / row_height))
    axes.set_xlim(-0.5, clients - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_yticks(range(0, len(classes), class_step), [_printable(name) for name in classes[::class_step]])
    label_width = 0.2 if clients <= 100 else 0.32
    client_step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if s * column_width >= label_width)
    axes.set_xticks(range(0, clients, client_step))
    axes.tick_params(length=0, labelsize=8.5)
    axes.tick_params(axis="y", labelcolor=light_colour("ink"))
    axes.set_xlabel("client", labelpad=3, loc="left")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(True, axis="y" if clients > _MAX_BUBBLE_CLIENTS else "both", lw=0.5)


def _printable(name: Any) -> str:
    """Return a class name that can be read on an axis; whitespace and unprintable characters are spelled out."""
    text = str(name)
    return text if text.strip() and text.isprintable() else ascii(text)[1:-1] if text.strip(" ") else "space"


def _draw_totals(axes: Axes, totals: NDArray[np.int64]) -> None:
    axes.bar(range(len(totals)), totals, width=0.72, color=light_colour("reference"), alpha=0.6, lw=0)
    axes.set_xlim(-0.5, len(totals) - 0.5)
    axes.set_ylim(0, max(int(totals.max()), 1))
    axes.set_xticks([])
    axes.set_yticks([0, int(totals.max())], ["0", f"{int(totals.max()):,}"])
    axes.tick_params(length=0, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("examples in all", loc="left", fontsize=9, color=light_colour("muted"), pad=4)
