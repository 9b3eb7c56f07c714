"""Who holds what: how many examples of each class lie with each client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onebasin.report import units
from onebasin.report.arms import ReportError, Section, seed_of
from onebasin.report.figures import blank
from onebasin.report.plot_style import drawing, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BUBBLES_UP_TO = 40
_WIDTH, _RIGHT, _STRIP = 8.75, 0.2, 0.55


def holdings_figure(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Figure:
    """Clients by classes: bubbles whose area is the number of examples, shaded cells beyond forty clients.

    classes: names, k of them. counts: one row of k counts a client. The strip on top is each client's total.
    Raises ReportError when a row does not fit the classes.
    """
    table = _checked(classes, counts)
    clients, kinds = table.shape
    with drawing():
        left = 0.5 + 0.072 * max([len(name) for name in classes] + [8])
        room = _WIDTH - left - _RIGHT
        pitch = min(room / max(clients, 1), 0.42)
        row = max(0.14, min(0.3, pitch)) if kinds <= 30 else max(0.06, 4.5 / kinds)
        height = 0.55 + kinds * row + 0.14 + _STRIP + 0.3
        width = left + max(pitch * clients, 2.6) + _RIGHT
        figure = blank(width, height)
        span = pitch * clients / width
        matrix = figure.add_axes((left / width, 0.5 / height, span, kinds * row / height))
        strip = figure.add_axes((left / width, (0.64 + kinds * row) / height, span, _STRIP / height))
        if clients <= _BUBBLES_UP_TO:
            _bubbles(matrix, table, min(pitch, row))
        else:
            _cells(matrix, table)
        _frame_matrix(matrix, classes, clients, row, pitch)
        _totals(strip, table.sum(axis=1))
        mark = "largest bubble" if clients <= _BUBBLES_UP_TO else "darkest cell"
        note = f"{mark}: {units.plural(int(table.max()), 'example')}"
        place = {"x": 1 - _RIGHT / width, "y": 0.12 / height}
        figure.text(**place, s=note, ha="right", va="center", fontsize=8.5, color=light("muted"))
        return figure


def section_holdings(section: Section) -> tuple[Figure, str] | None:
    """The holdings of a task's first seed, and a caption that says whether other seeds differ; None if not recorded."""
    holders = [run for run in section.runs if run.holdings.get("classes") and run.holdings.get("counts")]
    if not holders:
        return None
    most = max(len(run.holdings["counts"]) for run in holders)  # pooled training sees a single holder
    holders = [run for run in holders if len(run.holdings["counts"]) == most]
    first = min(holders, key=lambda run: (seed_of(run) is None, seed_of(run)))
    differ = any(run.holdings != first.holdings for run in holders)
    said = f"Seed {seed_of(first)}; other seeds divide the data anew." if differ else "The same for every run."
    figure = holdings_figure([str(label) for label in first.holdings["classes"]], first.holdings["counts"])
    return figure, f"Training examples of each class with each client. {said}"


def _checked(classes: Sequence[str], counts: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    if not classes or not counts:
        raise ReportError(f"holdings: {len(classes)} classes and {len(counts)} clients; expected one or more of each")
    for client, row in enumerate(counts):
        if len(row) != len(classes):
            raise ReportError(f"holdings: client {client} has {len(row)} counts for {len(classes)} classes")
    return np.asarray(counts, dtype=np.int64)


def _bubbles(axes: Axes, table: NDArray[np.int64], cell_inches: float) -> None:
    client, kind = np.nonzero(table)
    held = table[client, kind]
    widest = cell_inches * 72 * 0.94
    sizes = (widest**2) * held / max(int(table.max()), 1)
    axes.scatter(client, kind, s=np.maximum(sizes, 0.8), color=light("bubble"), lw=0)


def _cells(axes: Axes, table: NDArray[np.int64]) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    client, kind = np.nonzero(table)
    # The square root keeps the small holdings of a skewed split visible.
    shade = np.sqrt(table[client, kind] / max(int(table.max()), 1))
    boxes = [Rectangle((x - 0.46, y - 0.44), 0.92, 0.88) for x, y in zip(client, kind, strict=True)]
    axes.add_collection(PatchCollection(boxes, facecolor=light("bubble"), alpha=0.08 + 0.92 * shade, lw=0))


def _frame_matrix(axes: Axes, classes: Sequence[str], clients: int, row: float, pitch: float) -> None:
    every = 1 if row >= 0.13 else int(np.ceil(0.13 / row))
    axes.set_xlim(-0.5, clients - 0.5)
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.set_yticks(range(0, len(classes), every), [_visible(name) for name in classes[::every]])
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if s * pitch >= (0.2 if clients <= 100 else 0.32))
    axes.set_xticks(range(0, clients, step))
    axes.tick_params(length=0, labelsize=8.5)
    axes.tick_params(axis="y", labelcolor=light("ink"))
    axes.set_xlabel("client", labelpad=3, loc="left")
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.grid(True, axis="y" if clients > _BUBBLES_UP_TO else "both", lw=0.5)


def _visible(name: Any) -> str:
    """A class name that can be read on an axis: characters that print nothing are written out."""
    text = str(name)
    return text if text.strip() and text.isprintable() else ascii(text)[1:-1] if text.strip(" ") else "space"


def _totals(axes: Axes, totals: NDArray[np.int64]) -> None:
    axes.bar(range(len(totals)), totals, width=0.72, color=light("reference"), alpha=0.6, lw=0)
    axes.set_xlim(-0.5, len(totals) - 0.5)
    axes.set_ylim(0, max(int(totals.max()), 1))
    axes.set_xticks([])
    axes.set_yticks([0, int(totals.max())], ["0", f"{int(totals.max()):,}"])
    axes.tick_params(length=0, labelsize=8.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title("examples in all", loc="left", fontsize=9, color=light("muted"), pad=4)
