"""Figures of the final accuracy against a setting, such as the signature bits or the number of clients."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebasin.report.aggregate import is_pooled, read_runs, settings, task_title
from onebasin.report.arms import Arm, ReportError, Spread
from onebasin.report.figures import new_figure, save_png
from onebasin.report.plot_style import ArmStyle, arm_styles, light_colour, plot_settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onebasin.results.records import RunRecord

_PANEL_INCHES, _LEGEND_INCHES = 4.4, 4.6

ArmPoints = dict[str, dict[float, Spread]]
"""Arm name -> value of the setting -> final accuracy over the seeds, in [0, 1]."""


def write_against(root: Path, key: str, out: Path | None = None) -> Path:
    """Draw the final accuracy of all runs under `root` against a setting, as a PNG file, and return its path.

    key: see `against_figure`. out: the file to write (default: `against.png` in `root`).
    Raises ReportError when there is no run under `root`, and the errors of `against_figure`.
    """
    return save_png(against_figure(read_runs(root), key), out or root / "against.png")


def against_figure(records: Sequence[RunRecord], key: str, legend: bool = True) -> Figure:
    """Draw the mean final accuracy against a setting, with a band of one standard deviation over the seeds.

    Each task has a panel and each arm a line. An arm with a single value of the setting is a horizontal line.

    key: a setting such as "task.clients", or a product of several: "method.alignment.features*method.alignment.bits".
    legend: whether to draw a legend beside the panels; `against_styles` returns what a legend drawn elsewhere needs.
    Raises ReportError when the setting is not a number in any finished run, or has only one value.
    """
    panels = _points_by_task(records, key)
    values = sorted({value for arms in panels.values() for points in arms.values() for value in points})
    if len(values) < 2:
        raise ReportError(f"{key}: {'one value' if values else 'no number'} in these runs; expected several")
    styles = _arm_styles(panels)
    with plot_settings():
        width, height = _PANEL_INCHES * len(panels) + (_LEGEND_INCHES if legend else 0.1), 4.3
        figure = new_figure(width, height)
        for index, (title, arms) in enumerate(sorted(panels.items())):
            axes = figure.add_axes(((0.75 + _PANEL_INCHES * index) / width, 0.62 / height, 3.5 / width, 3.2 / height))
            axes.set_title(title, fontsize=9.5, color=light_colour("ink"), loc="left")
            for name, points in arms.items():
                _draw_arm(axes, points, styles[name])
            _format_axes(axes, values, _axis_label(key), index == 0)
        if legend:
            _draw_legend(figure, styles)
        return figure


def against_styles(records: Sequence[RunRecord], key: str) -> dict[str, ArmStyle]:
    """Return the style of each arm in `against_figure`, in descending order of its mean accuracy over all points."""
    return _arm_styles(_points_by_task(records, key))


def _points_by_task(records: Sequence[RunRecord], key: str) -> dict[str, ArmPoints]:
    """Return, for each task title and arm, the final accuracy at each value of the setting."""
    accuracies: dict[str, dict[str, dict[float, list[float]]]] = {}
    for run in records:
        value, accuracy = _setting_value(run.config, key), run.summary.get("accuracy", {}).get("final")
        if value is not None and accuracy is not None and not is_pooled(run):
            title = task_title(run, without_clients="task.clients" in key)
            arms = accuracies.setdefault(title, {})
            arms.setdefault(_arm_name(run, key), {}).setdefault(value, []).append(accuracy)
    return {
        title: {
            name: {value: spread for value, scores in sorted(points.items()) if (spread := Spread.of(scores))}
            for name, points in arms.items()
        }
        for title, arms in accuracies.items()
    }


def _setting_value(config: dict[str, Any], key: str) -> float | None:
    """Return the product of the settings that `key` names; None when one of them is missing or not a number."""
    product = 1.0
    for part in key.split("*"):
        value: Any = config
        for name in part.strip().split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        product *= value
    return product


def _arm_name(run: RunRecord, key: str) -> str:
    """Return the arm's label without the ` name=value` parts that a study's grid has added for these settings."""
    name = run.label
    for part in key.split("*"):
        name = re.sub(rf"\s*\b{re.escape(part.strip().split('.')[-1])}=\S+", "", name)
    return name.rstrip(" ,") or json.dumps(settings(run), sort_keys=True)[:40]


def _axis_label(key: str) -> str:
    return " × ".join(part.strip().split(".")[-1] for part in key.split("*"))


def _draw_arm(axes: Axes, points: dict[float, Spread], style: ArmStyle) -> None:
    if len(points) == 1:
        (spread,) = points.values()
        axes.axhline(100 * spread.mean, color=style.colour, ls=(0, (4, 2)), lw=1.3, zorder=2)
        return
    x, y = list(points), [100 * spread.mean for spread in points.values()]
    low = [100 * (spread.mean - (spread.sd or 0)) for spread in points.values()]
    high = [100 * (spread.mean + (spread.sd or 0)) for spread in points.values()]
    axes.fill_between(x, low, high, color=style.colour, alpha=0.12, lw=0)
    marker: dict[str, Any] = {"marker": style.marker or "o", "ms": 5, "mec": light_colour("paper")}
    axes.plot(x, y, color=style.colour, ls=style.linestyle, zorder=3, **marker)


def _format_axes(axes: Axes, values: Sequence[float], label: str, first: bool) -> None:
    """Put ticks at the values, on a log scale where they span a factor of eight or more."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if values[0] > 0 and values[-1] / values[0] >= 8:
        axes.set_xscale("log")
        ticks = [v for i, v in enumerate(values) if i == 0 or math.log(v / values[0]) > 0.08 * i]
    else:
        ticks = list(values)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel(label)
    axes.grid(True)
    if first:
        axes.set_ylabel("final test accuracy, %")


def _arm_styles(panels: dict[str, ArmPoints]) -> dict[str, ArmStyle]:
    accuracies: dict[str, list[float]] = {}
    for arms in panels.values():
        for name, points in arms.items():
            accuracies.setdefault(name, []).extend(spread.mean for spread in points.values())
    styles = arm_styles(Arm(name, ()) for name in accuracies)
    best_first = sorted(accuracies, key=lambda name: -sum(accuracies[name]) / len(accuracies[name]))
    return {name: styles[name] for name in best_first}


def _draw_legend(figure: Figure, styles: dict[str, ArmStyle]) -> None:
    from matplotlib.lines import Line2D

    width, height = (float(side) for side in figure.get_size_inches())
    row_height = min(0.27, 3.6 / len(styles)) / height
    for row, (name, style) in enumerate(styles.items()):
        y, left = 1 - 0.5 / height - row * row_height, 1 - (_LEGEND_INCHES - 0.15) / width
        common: dict[str, Any] = {"color": style.colour, "transform": figure.transFigure}
        figure.add_artist(Line2D([left, left + 0.4 / width], [y, y], ls=style.linestyle, lw=1.8, **common))
        figure.add_artist(Line2D([left + 0.2 / width], [y], marker=style.marker or "o", ms=5, ls="none", **common))
        figure.text(left + 0.5 / width, y, name, va="center", fontsize=8.5)
