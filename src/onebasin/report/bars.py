"""Bytes by kind: how much crossed, and what it was made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onebasin.report.arms import BYTE_KINDS, Arm, Section
from onebasin.report.figures import blank
from onebasin.report.plot_style import KIND_NAMES, drawing, light
from onebasin.report.units import byte_text, tick_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES, _LONGEST = 0.3, 31

BYTES_CAPTION = "Means over finished runs. On the right each arm's own total is 100%, so that small ones can be read."


def bytes_figure(section: Section) -> Figure | None:
    """Two panels, one row an arm, means over seeds: bytes to scale, and each kind's share of the arm's own total.

    The second panel keeps an arm readable whose bar is a sliver beside FedAvg's. None where no arm has finished.
    """
    counted = [(arm, spread.mean) for arm in section.arms if (spread := arm.bytes()) and spread.mean > 0]
    if not counted:
        return None
    parts = {arm.label: [_mean(arm, kind) for kind in BYTE_KINDS] for arm, _ in counted}
    kinds = [place for place in range(len(BYTE_KINDS)) if any(row[place] for row in parts.values())]
    with drawing():
        width, rows = 8.75, _ROW_INCHES * len(counted)
        height = rows + 1.05
        figure = blank(width, height)
        scaled = figure.add_axes((2.3 / width, 0.5 / height, 3.2 / width, rows / height))
        shares = figure.add_axes((6.6 / width, 0.5 / height, 1.95 / width, rows / height))
        most = max(total for _, total in counted)
        for row, (arm, total) in enumerate(counted):
            _stack(scaled, row, parts[arm.label], kinds, 1.0)
            _stack(shares, row, parts[arm.label], kinds, 100 / total)
            scaled.annotate(
                byte_text(total), (total, row), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9
            )
        names = [arm.label if len(arm.label) <= _LONGEST else f"{arm.label[: _LONGEST - 1]}…" for arm, _ in counted]
        _frame(scaled, names, most, "bytes to scale")
        _frame(shares, [""] * len(names), 100.0, "share of the arm's own bytes, %")
        _name_kinds(figure, [BYTE_KINDS[place] for place in kinds])
        return figure


def _mean(arm: Arm, kind: str) -> float:
    spread = arm.bytes(kind)
    return spread.mean if spread else 0.0


def _stack(axes: Axes, row: int, parts: list[float], kinds: list[int], scale: float) -> None:
    left = 0.0
    for place in kinds:
        size = parts[place] * scale
        axes.barh(row, size, left=left, height=0.62, color=light(BYTE_KINDS[place]), lw=0)
        left += size


def _frame(axes: Axes, names: list[str], top: float, title: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=light("ink"), labelsize=9)
    axes.tick_params(axis="x", length=3, labelsize=8.5)
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, top)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    if top != 100.0:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    axes.grid(True, axis="x")
    axes.set_title(title, loc="left", fontsize=9, color=light("muted"), pad=6)


def _name_kinds(figure: Figure, kinds: list[str]) -> None:
    from matplotlib.patches import Rectangle

    width, height = (float(v) for v in figure.get_size_inches())
    x, y = 2.3 / width, 1 - 0.2 / height
    for kind in kinds:
        swatch = Rectangle((x, y - 0.055 / height), 0.13 / width, 0.13 / height, color=light(kind), lw=0)
        swatch.set_transform(figure.transFigure)
        figure.add_artist(swatch)
        figure.text(x + 0.2 / width, y, KIND_NAMES[kind], va="center", fontsize=9)
        x += (0.42 + 0.064 * len(KIND_NAMES[kind])) / width
