"""The figure of bytes by kind (up, down, init, align) for each arm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebasin.report.arms import BYTE_KINDS, Arm, Section
from onebasin.report.figures import new_figure
from onebasin.report.plot_style import KIND_NAMES, light_colour, plot_settings
from onebasin.report.units import byte_text, tick_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES, _MAX_LABEL_LENGTH = 0.3, 31

BYTES_CAPTION = "Means over finished runs. On the right each arm's own total is 100%, so that small ones can be read."


def bytes_figure(section: Section) -> Figure | None:
    """Draw stacked bars of bytes by kind, one row per arm, as means over seeds.

    The left panel shows bytes to scale. The right panel shows each kind's share of the arm's own total, so that an arm
    stays readable whose bar is very short beside FedAvg's. None when no arm has a finished run that sent bytes.
    """
    totals = [(arm, spread.mean) for arm in section.arms if (spread := arm.bytes()) and spread.mean > 0]
    if not totals:
        return None
    parts = {arm.label: {kind: _mean_bytes(arm, kind) for kind in BYTE_KINDS} for arm, _ in totals}
    kinds = [kind for kind in BYTE_KINDS if any(by_kind[kind] for by_kind in parts.values())]
    with plot_settings():
        width, rows = 8.75, _ROW_INCHES * len(totals)
        height = rows + 1.05
        figure = new_figure(width, height)
        scaled = figure.add_axes((2.3 / width, 0.5 / height, 3.2 / width, rows / height))
        shares = figure.add_axes((6.6 / width, 0.5 / height, 1.95 / width, rows / height))
        largest = max(total for _, total in totals)
        for row, (arm, total) in enumerate(totals):
            _draw_bar(scaled, row, parts[arm.label], kinds, 1.0)
            _draw_bar(shares, row, parts[arm.label], kinds, 100 / total)
            scaled.annotate(
                byte_text(total), (total, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9
            )
        labels = [
            arm.label if len(arm.label) <= _MAX_LABEL_LENGTH else f"{arm.label[: _MAX_LABEL_LENGTH - 1]}…"
            for arm, _ in totals
        ]
        _format_axes(scaled, labels, largest, "bytes to scale")
        _format_axes(shares, [""] * len(labels), 100.0, "share of the arm's own bytes, %")
        _draw_legend(figure, kinds)
        return figure


def _mean_bytes(arm: Arm, kind: str) -> float:
    spread = arm.bytes(kind)
    return spread.mean if spread else 0.0


def _draw_bar(axes: Axes, row: int, parts: dict[str, float], kinds: list[str], scale: float) -> None:
    left = 0.0
    for kind in kinds:
        size = parts[kind] * scale
        axes.barh(row, size, left=left, height=0.62, color=light_colour(kind), lw=0)
        left += size


def _format_axes(axes: Axes, labels: list[str], largest: float, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelcolor=light_colour("ink"), labelsize=9)
    axes.tick_params(axis="x", length=3, labelsize=8.5)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, largest)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if largest != 100.0:  # the panel of shares has plain percent ticks
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    axes.grid(True, axis="x")
    axes.set_title(title, loc="left", fontsize=9, color=light_colour("muted"), pad=6)


def _draw_legend(figure: Figure, kinds: list[str]) -> None:
    from matplotlib.patches import Rectangle

    width, height = (float(v) for v in figure.get_size_inches())
    x, y = 2.3 / width, 1 - 0.2 / height
    for kind in kinds:
        swatch = Rectangle((x, y - 0.055 / height), 0.13 / width, 0.13 / height, color=light_colour(kind), lw=0)
        swatch.set_transform(figure.transFigure)
        figure.add_artist(swatch)
        figure.text(x + 0.2 / width, y, KIND_NAMES[kind], va="center", fontsize=9)
        x += (0.42 + 0.064 * len(KIND_NAMES[kind])) / width
