"""The figure of masks over the rounds: the share of kept weights and the bits a mask takes, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebasin.report.arms import Arm, Section
from onebasin.report.curves import spread_apart
from onebasin.report.figures import new_figure
from onebasin.report.plot_style import COLOURS, light_colour, plot_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onebasin.results.records import RunRecord

MASKS_CAPTION = (
    "Left: the share of a layer's weights that the common model keeps. Right: the entropy of a draw from its chances, "
    "layer by layer, in bits a weight; dashed: the bits a parameter that a client's reply really took, all in. First "
    "seed of each arm."
)
# Inches.
_WIDTH, _LEFT, _PANEL_WIDTH, _COLUMN_GAP = 8.75, 0.45, 2.6, 1.5
_PANEL_HEIGHT, _ROW_GAP, _TOP, _BOTTOM = 1.75, 0.6, 0.35, 0.15
_MAX_NAME_LENGTH = 17


@dataclass(frozen=True)
class _Series:
    """One quantity over the rounds: of a layer's mask, or (`coded`) of whole replies as they were sent."""

    name: str
    rounds: list[int]
    values: list[float]
    coded: bool = False


def masks_figure(section: Section) -> Figure | None:
    """Draw the share of kept weights and the bits of the masks, one row for each arm that trains masks.

    None when no arm trains masks.
    """
    rows = [(arm, run) for arm in section.arms if (run := _first_run_with_masks(arm)) is not None]
    if not rows:
        return None
    with plot_settings():
        height = _TOP + len(rows) * (_PANEL_HEIGHT + _ROW_GAP) + _BOTTOM
        figure = new_figure(_WIDTH, height)
        for number, (arm, run) in enumerate(rows):
            bottom = height - _TOP - number * (_PANEL_HEIGHT + _ROW_GAP) - _PANEL_HEIGHT
            bits = [*_layer_series(run, "entropy", 1.0), *_reply_series(run)]
            for column, (title, all_series) in enumerate(
                (("kept, %", _layer_series(run, "kept", 100.0)), ("bits", bits))
            ):
                left = _LEFT + column * (_PANEL_WIDTH + _COLUMN_GAP)
                axes = figure.add_axes((left / _WIDTH, bottom / height, _PANEL_WIDTH / _WIDTH, _PANEL_HEIGHT / height))
                _draw_panel(axes, all_series, number == len(rows) - 1)
                axes.set_title(f"{arm.label}: {title}", loc="left", fontsize=9, color=light_colour("ink"), pad=5)
        return figure


def _first_run_with_masks(arm: Arm) -> RunRecord | None:
    return next((run for run in arm.finished or arm.unfinished if any("masks" in line for line in run.history)), None)


def _layer_series(run: RunRecord, quantity: str, scale: float) -> list[_Series]:
    """Return the quantity ("kept" or "entropy") of every layer that has it in each round."""
    lines = [line for line in run.history if "masks" in line]
    layers = list(lines[0]["masks"])
    return [
        _Series(layer, [line["round"] for line in lines], [scale * line["masks"][layer][quantity] for line in lines])
        for layer in layers
        if all(quantity in line["masks"][layer] for line in lines)
    ]


def _reply_series(run: RunRecord) -> list[_Series]:
    """Return the mean size of a reply in each round, in bits per parameter; none when the run has no summary."""
    parameters = run.summary.get("parameters")
    if not parameters:
        return []
    rounds, bits, previous = [], [], 0
    for line in run.history:
        sent = line["bytes"]["up"] - previous  # the history has cumulative bytes
        previous = line["bytes"]["up"]
        if line.get("replies"):
            rounds.append(line["round"])
            bits.append(8 * sent / line["replies"] / parameters)
    return [_Series("coded, up", rounds, bits, coded=True)]


def _draw_panel(axes: Axes, all_series: list[_Series], last_row: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    colours = [colour for name, (colour, _) in COLOURS.items() if name.startswith("arm")]
    ends = []
    for number, series in enumerate(all_series):
        colour = light_colour("ink") if series.coded else colours[number % len(colours)]
        axes.plot(series.rounds, series.values, lw=1.6, color=colour, ls=(0, (4, 2)) if series.coded else "-")
        ends.append((series.values[-1], series.name, colour))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    axes.tick_params(length=3, labelsize=8.5)
    if last_row:
        axes.set_xlabel("round", labelpad=4)
    ends.sort()
    low, high = axes.get_ylim()
    heights = spread_apart([(value - low) / (high - low) for value, _, _ in ends], 0.1)
    for (_, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            _shorten(name), (1, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=colour, annotation_clip=False,
        )  # fmt: skip


def _shorten(name: str) -> str:
    return name if len(name) <= _MAX_NAME_LENGTH else f"…{name[1 - _MAX_NAME_LENGTH :]}"
