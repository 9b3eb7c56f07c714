"""Figures of the test accuracy against total bytes (the main figure of a report) and against rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.report import units
from onebasin.report.arms import Arm, Section
from onebasin.report.figures import new_figure
from onebasin.report.plot_style import ArmStyle, arm_styles, light_colour, plot_settings
from onebasin.report.scales import FloatArray, clip_accuracy, scale_accuracy, scale_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND_INCHES = 4.2

FRONTIER_CAPTION = (
    "Up and to the left is better. Mean over seeds, band of one standard deviation; a curve starts with what round 1 "
    "had cost and ends in its mark. Dashed: references, for which no model travels. Dotted: sending the data instead."
)
ROUNDS_CAPTION = "Mean over seeds, band of one standard deviation. A round is not a unit of cost."


@dataclass(frozen=True)
class Curve:
    """An arm's accuracy curve: means over seeds at the n rounds that every seed evaluated.

    rounds, total_bytes, accuracy (in [0, 1]) and sd (standard deviation of the accuracy) are [n]. sd is None for a
    single seed.
    """

    rounds: FloatArray
    total_bytes: FloatArray
    accuracy: FloatArray
    sd: FloatArray | None


def mean_curve(arm: Arm) -> Curve | None:
    """Return the curve of an arm's finished runs, or of its unfinished runs when none is finished.

    None when no round was evaluated by every run.
    """
    histories = [
        {line["round"]: line for line in run.history if line.get("accuracy") is not None}
        for run in arm.finished or arm.unfinished
    ]
    shared = sorted(set.intersection(*(set(history) for history in histories))) if histories else []
    if not shared:
        return None
    scores = np.array([[history[n]["accuracy"] for n in shared] for history in histories], dtype=np.float64)
    total_bytes = np.array([[history[n]["bytes"]["total"] for n in shared] for history in histories], dtype=np.float64)
    sd = scores.std(axis=0, ddof=1) if len(histories) > 1 else None
    return Curve(np.array(shared, dtype=np.float64), total_bytes.mean(axis=0), scores.mean(axis=0), sd)


def frontier_figure(section: Section, styles: Mapping[str, ArmStyle] | None = None, legend: bool = True) -> Figure:
    """Draw the test accuracy against total bytes on a log axis: one curve per arm, mean over seeds, band of one sd.

    A curve starts at the bytes after round 1. References, for which no model is sent, are horizontal lines; the size
    of the compressed training data is a vertical line.
    styles: by arm label (default: `arm_styles` of the section). legend: whether to draw a legend beside the plot.
    """
    styles = styles or arm_styles(section.arms)
    with plot_settings():
        figure, axes = _figure_and_axes(legend, "total bytes, all clients, both ways", 0.5)
        axes.set_xscale("log")
        drawn = []
        for arm in section.arms:
            curve = None if arm.is_reference else mean_curve(arm)
            if curve is None or not np.any((curve.total_bytes > 0) & (curve.rounds >= 1)):
                continue
            visible = (curve.total_bytes > 0) & (curve.rounds >= 1)
            sd = None if curve.sd is None else curve.sd[visible]
            x, accuracies = curve.total_bytes[visible], curve.accuracy[visible]
            _draw_curve(axes, x, accuracies, sd, styles[arm.label], bool(arm.finished))
            drawn.append((arm, float(curve.accuracy[-1])))
        references = [(arm, s.mean) for arm in section.arms if arm.is_reference and (s := arm.accuracy())]
        for arm, accuracy in references:
            line: dict[str, Any] = {"color": light_colour("reference"), "ls": styles[arm.label].linestyle, "lw": 1.2}
            axes.axhline(clip_accuracy(accuracy), zorder=1, **line)
        scale_accuracy(axes, [score for _, score in drawn + references])
        _draw_dataset_size(axes, section.dataset_bytes)
        scale_bytes(axes)
        _label_references(axes, references)
        if legend:
            _draw_legend(figure, drawn, styles)
        return figure


def rounds_figure(section: Section, styles: Mapping[str, ArmStyle] | None = None, legend: bool = True) -> Figure:
    """Draw the test accuracy against rounds: one curve per arm (references too), mean over seeds, band of one sd.

    styles, legend: as in `frontier_figure`.
    """
    styles = styles or arm_styles(section.arms)
    with plot_settings():
        from matplotlib.ticker import MaxNLocator

        figure, axes = _figure_and_axes(legend, "round", 0.15)
        drawn = []
        for arm in sorted(section.arms, key=lambda arm: not arm.is_reference):
            if (curve := mean_curve(arm)) is not None:
                _draw_curve(axes, curve.rounds, curve.accuracy, curve.sd, styles[arm.label], bool(arm.finished))
                drawn.append((arm, float(curve.accuracy[-1])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        scale_accuracy(axes, [score for _, score in drawn])
        _label_references(axes, [pair for pair in drawn if pair[0].is_reference])
        if legend:
            _draw_legend(figure, [pair for pair in drawn if not pair[0].is_reference], styles)
        return figure


def _figure_and_axes(legend: bool, xlabel: str, headroom: float) -> tuple[Figure, Axes]:
    """Return a figure and its axes, with `headroom` inches above them and room for a legend on the right."""
    plot, margin = 6.0, 1.15
    width, height = 0.75 + plot + margin + (_LEGEND_INCHES + 0.6 if legend else 0), 4.1 + headroom
    figure = new_figure(width, height)
    axes = figure.add_axes((0.75 / width, 0.57 / height, plot / width, 3.53 / height))
    axes.set_xlabel(xlabel, labelpad=7)
    axes.tick_params(length=3)
    axes.grid(True)
    return figure, axes


def _draw_curve(
    axes: Axes, x: FloatArray, accuracy: FloatArray, sd: FloatArray | None, style: ArmStyle, finished: bool
) -> None:
    """Draw one curve, with a band of one `sd`; it is paler while no run of the arm is finished."""
    y = clip_accuracy(accuracy)
    if sd is not None:
        low, high = clip_accuracy(accuracy - sd), clip_accuracy(accuracy + sd)
        axes.fill_between(x, low, high, color=style.colour, alpha=0.13, lw=0)
    width = 1.4 if style.colour_name == "reference" else 1.8
    opacity = 1.0 if finished else 0.45
    axes.plot(x, y, color=style.colour, ls=style.linestyle, lw=width, alpha=opacity, zorder=3)
    if style.marker:
        few = len(x) <= 8
        marked = slice(None) if few else slice(-1, None)
        marker: dict[str, Any] = {"marker": style.marker, "ls": "none", "ms": 5 if few else 6.5}
        axes.plot(x[marked], y[marked], color=style.colour, mec=light_colour("paper"), mew=0.9, zorder=4, **marker)


def _draw_dataset_size(axes: Axes, size: int | None) -> None:
    """Draw a vertical line at the size of the compressed training data in bytes; none when it is not known."""
    if not size:
        return
    axes.axvline(size, color=light_colour("ink"), lw=1.1, ls=(0, (1, 2)), zorder=1)
    low, high = axes.get_xlim()
    position = math.log(size / low) / math.log(high / low)
    alignment = "left" if position < 0.3 else "right" if position > 0.7 else "center"
    text = f"the training data itself, compressed: {units.byte_text(size)}"
    axes.annotate(
        text, (size, 1), xycoords=("data", "axes fraction"), xytext=(0, 7), textcoords="offset points",
        ha=alignment, va="bottom", fontsize=9, color=light_colour("ink"), annotation_clip=False,
    )  # fmt: skip


def _label_references(axes: Axes, references: list[tuple[Arm, float]]) -> None:
    """Write the names of references in the right margin at the heights of their lines, moved apart if they overlap."""
    ordered = sorted(references, key=lambda pair: pair[1])
    heights = [
        float(axes.transAxes.inverted().transform(axes.transData.transform((1, clip_accuracy(accuracy))))[1])
        for _, accuracy in ordered
    ]
    labels = [f"{_wrapped(arm.label, 16)}\n{units.percent_text(accuracy)}" for arm, accuracy in ordered]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    for label, height in zip(labels, spread_apart(heights, 0.042 * lines), strict=True):
        axes.annotate(
            label, (1, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=light_colour("muted"), linespacing=1.15, annotation_clip=False,
        )  # fmt: skip


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Return ascending heights, moved as little as possible, so that neighbours are at least `gap` apart.

    Neighbours that would touch form a block, which is centred on the mean of their original heights. This is isotonic
    least squares on `height - index * gap`, solved by pooling adjacent violators.
    """
    blocks: list[tuple[float, int]] = []  # (mean, number of labels)
    for index, height in enumerate(heights):
        mean, size = height - gap * index, 1
        while blocks and blocks[-1][0] > mean:
            other_mean, other_size = blocks.pop()
            mean, size = (other_mean * other_size + mean * size) / (other_size + size), other_size + size
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    return [mean + gap * index for index, mean in enumerate(means)]


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return textwrap.fill(text, width)


def _draw_legend(figure: Figure, drawn: list[tuple[Arm, float]], styles: Mapping[str, ArmStyle]) -> None:
    """Write the arms' names beside the plot, best final accuracy first, each with its accuracy and its bytes."""
    from matplotlib.lines import Line2D

    width, height = (float(v) for v in figure.get_size_inches())
    left, right = 1 - (_LEGEND_INCHES + 0.1) / width, 1 - 0.15 / width
    top = 4.0 / height
    row_height = min(0.3, 3.9 / max(len(drawn), 1)) / height
    for row, (arm, accuracy) in enumerate(sorted(drawn, key=lambda pair: -pair[1])):
        y, style = top - row * row_height, styles[arm.label]
        common: dict[str, Any] = {"transform": figure.transFigure, "color": style.colour}
        figure.add_artist(Line2D([left, left + 0.5 / width], [y, y], ls=style.linestyle, lw=1.8, **common))
        figure.add_artist(Line2D([left + 0.25 / width], [y], marker=style.marker, ms=6, ls="none", **common))
        total = arm.bytes()
        figures = units.percent_text(accuracy) + "%" + (f" · {units.byte_text(total.mean)}" if total else "")
        figures += "" if arm.finished else " · unfinished"
        max_length = 47 - len(figures)
        name = arm.label if len(arm.label) <= max_length else arm.label[: max_length - 1] + "…"
        figure.text(left + 0.62 / width, y, name, va="center", fontsize=9)
        figure.text(right, y, figures, va="center", ha="right", fontsize=8.5, color=light_colour("muted"))
