"""Accuracy against total bytes (the figure that matters) and against rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.report import units
from onebasin.report.arms import Arm, Section
from onebasin.report.figures import blank
from onebasin.report.plot_style import Look, drawing, light, looks
from onebasin.report.scales import FloatArray, scale_accuracy, scale_bytes, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_KEY_INCHES = 4.2

FRONTIER_CAPTION = (
    "Up and to the left is better. Mean over seeds, band of one standard deviation; a curve starts with what round 1 "
    "had cost and ends in its mark. Dashed: references, for which no model travels. Dotted: sending the data instead."
)
ROUNDS_CAPTION = "Mean over seeds, band of one standard deviation. A round is not a unit of cost."


@dataclass(frozen=True)
class Curve:
    """Mean over seeds at each round that every seed evaluated; `sd` is None for one seed."""

    rounds: FloatArray
    total_bytes: FloatArray
    accuracy: FloatArray
    sd: FloatArray | None


def curve(arm: Arm) -> Curve | None:
    """The mean curve of an arm's finished runs (of the unfinished where none is finished); None without a point."""
    histories = [
        {line["round"]: line for line in run.history if line.get("accuracy") is not None}
        for run in arm.finished or arm.unfinished
    ]
    shared = sorted(set.intersection(*(set(history) for history in histories))) if histories else []
    if not shared:
        return None
    scores = np.array([[history[n]["accuracy"] for n in shared] for history in histories], dtype=np.float64)
    moved = np.array([[history[n]["bytes"]["total"] for n in shared] for history in histories], dtype=np.float64)
    sd = scores.std(axis=0, ddof=1) if len(histories) > 1 else None
    return Curve(np.array(shared, dtype=np.float64), moved.mean(axis=0), scores.mean(axis=0), sd)


def frontier_figure(section: Section, look: Mapping[str, Look] | None = None, key: bool = True) -> Figure:
    """Test accuracy against total bytes on a log axis: one curve an arm, mean over seeds, band of one sd.

    Curves start with what round 1 had cost. References, for which no model travels, are horizontal lines; the
    compressed training data is a vertical one. key: whether the names stand beside the plot (the page has its own).
    """
    look = look or looks(section.arms)
    with drawing():
        figure, axes = _stage(key, "total bytes, all clients, both ways", 0.5)
        axes.set_xscale("log")
        drawn = []
        for arm in section.arms:
            line = None if arm.is_reference else curve(arm)
            if line is None or not np.any((line.total_bytes > 0) & (line.rounds >= 1)):
                continue
            kept = (line.total_bytes > 0) & (line.rounds >= 1)
            band = None if line.sd is None else line.sd[kept]
            _draw(axes, line.total_bytes[kept], line.accuracy[kept], band, look[arm.label], bool(arm.finished))
            drawn.append((arm, float(line.accuracy[-1])))
        references = [(arm, s.mean) for arm in section.arms if arm.is_reference and (s := arm.accuracy())]
        for arm, accuracy in references:
            axes.axhline(shown(accuracy), color=light("reference"), lw=1.2, ls=look[arm.label].linestyle, zorder=1)
        scale_accuracy(axes, [score for _, score in drawn + references])
        _data_line(axes, section.dataset_bytes)
        scale_bytes(axes)
        _reference_names(axes, references)
        if key:
            _draw_key(figure, drawn, look)
        return figure


def rounds_figure(section: Section, look: Mapping[str, Look] | None = None, key: bool = True) -> Figure:
    """Test accuracy against rounds, references too: one curve an arm, mean over seeds, band of one sd."""
    look = look or looks(section.arms)
    with drawing():
        from matplotlib.ticker import MaxNLocator

        figure, axes = _stage(key, "round", 0.15)
        drawn = []
        for arm in sorted(section.arms, key=lambda arm: not arm.is_reference):
            if (line := curve(arm)) is not None:
                _draw(axes, line.rounds, line.accuracy, line.sd, look[arm.label], bool(arm.finished))
                drawn.append((arm, float(line.accuracy[-1])))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        scale_accuracy(axes, [score for _, score in drawn])
        _reference_names(axes, [pair for pair in drawn if pair[0].is_reference])
        if key:
            _draw_key(figure, [pair for pair in drawn if not pair[0].is_reference], look)
        return figure


def _stage(key: bool, xlabel: str, headroom: float) -> tuple[Figure, Axes]:
    plot, margin = 6.0, 1.15
    width, height = 0.75 + plot + margin + (_KEY_INCHES + 0.6 if key else 0), 4.1 + headroom
    figure = blank(width, height)
    axes = figure.add_axes((0.75 / width, 0.57 / height, plot / width, 3.53 / height))
    axes.set_xlabel(xlabel, labelpad=7)
    axes.tick_params(length=3)
    axes.grid(True)
    return figure, axes


def _draw(axes: Axes, x: FloatArray, accuracy: FloatArray, sd: FloatArray | None, look: Look, whole: bool) -> None:
    y = shown(accuracy)
    if sd is not None:
        axes.fill_between(x, shown(accuracy - sd), shown(accuracy + sd), color=look.colour, alpha=0.13, lw=0)
    width = 1.4 if look.ink == "reference" else 1.8
    opacity = 1.0 if whole else 0.45
    axes.plot(x, y, color=look.colour, ls=look.linestyle, lw=width, alpha=opacity, zorder=3)
    if look.marker:
        few = len(x) <= 8
        places = slice(None) if few else slice(-1, None)
        mark: dict[str, Any] = {"marker": look.marker, "ls": "none", "ms": 5 if few else 6.5}
        axes.plot(x[places], y[places], color=look.colour, mec=light("paper"), mew=0.9, zorder=4, **mark)


def _data_line(axes: Axes, size: int | None) -> None:
    if not size:
        return
    axes.axvline(size, color=light("ink"), lw=1.1, ls=(0, (1, 2)), zorder=1)
    low, high = axes.get_xlim()
    place = math.log(size / low) / math.log(high / low)
    side = "left" if place < 0.3 else "right" if place > 0.7 else "center"
    words = f"the training data itself, compressed: {units.byte_text(size)}"
    axes.annotate(
        words, (size, 1), xycoords=("data", "axes fraction"), xytext=(0, 7), textcoords="offset points",
        ha=side, va="bottom", fontsize=9, color=light("ink"), annotation_clip=False,
    )  # fmt: skip


def _reference_names(axes: Axes, references: list[tuple[Arm, float]]) -> None:
    """Names in the right margin at the height of their lines, moved apart where two would touch."""
    ordered = sorted(references, key=lambda pair: pair[1])
    heights = [
        float(axes.transAxes.inverted().transform(axes.transData.transform((1, shown(a))))[1]) for _, a in ordered
    ]
    said = [f"{_wrapped(arm.label, 16)}\n{units.percent_text(accuracy)}" for arm, accuracy in ordered]
    lines = max((words.count("\n") + 1 for words in said), default=1)
    for words, height in zip(said, spread_apart(heights, 0.042 * lines), strict=True):
        axes.annotate(
            words, (1, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=light("muted"), linespacing=1.15, annotation_clip=False,
        )  # fmt: skip


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Ascending heights moved as little as possible so that neighbours are at least `gap` apart.

    Touching neighbours form a block that is centred on the mean of what its members wanted (pool adjacent violators).
    """
    blocks: list[tuple[float, int]] = []
    for place, height in enumerate(heights):
        wanted, size = height - gap * place, 1
        while blocks and blocks[-1][0] > wanted:
            mean, count = blocks.pop()
            wanted, size = (mean * count + wanted * size) / (count + size), count + size
        blocks.append((wanted, size))
    flat = [mean for mean, count in blocks for _ in range(count)]
    return [mean + gap * place for place, mean in enumerate(flat)]


def _wrapped(text: str, width: int) -> str:
    import textwrap

    return textwrap.fill(text, width)


def _draw_key(figure: Figure, drawn: list[tuple[Arm, float]], look: Mapping[str, Look]) -> None:
    """Names beside the plot, best final accuracy first, each with that accuracy and its bytes."""
    from matplotlib.lines import Line2D

    width, height = (float(v) for v in figure.get_size_inches())
    left, right = 1 - (_KEY_INCHES + 0.1) / width, 1 - 0.15 / width
    top = 4.0 / height
    step = min(0.3, 3.9 / max(len(drawn), 1)) / height
    for place, (arm, accuracy) in enumerate(sorted(drawn, key=lambda pair: -pair[1])):
        y, style = top - place * step, look[arm.label]
        at: dict[str, Any] = {"transform": figure.transFigure, "color": style.colour}
        figure.add_artist(Line2D([left, left + 0.5 / width], [y, y], ls=style.linestyle, lw=1.8, **at))
        figure.add_artist(Line2D([left + 0.25 / width], [y], marker=style.marker, ms=6, ls="none", **at))
        total = arm.bytes()
        figures = units.percent_text(accuracy) + "%" + (f" · {units.byte_text(total.mean)}" if total else "")
        figures += "" if arm.finished else " · unfinished"
        room = 47 - len(figures)
        name = arm.label if len(arm.label) <= room else arm.label[: room - 1] + "…"
        figure.text(left + 0.62 / width, y, name, va="center", fontsize=9)
        figure.text(right, y, figures, va="center", ha="right", fontsize=8.5, color=light("muted"))
