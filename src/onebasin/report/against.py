"""Final accuracy against a setting: bits of a signature, number of clients, length of the local phase."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebasin.report.aggregate import is_pooled, runs_in, settings, task_title
from onebasin.report.arms import Arm, ReportError, Spread
from onebasin.report.figures import blank, save_png
from onebasin.report.plot_style import Look, drawing, light, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onebasin.results.records import RunRecord

_PANEL, _KEY = 4.4, 4.6

Lines = dict[str, dict[float, Spread]]


def write_against(root: Path, key: str, out: Path | None = None) -> Path:
    """Draw `against.png` in `root`, or `out`, and return its path. Errors: as `against_figure`, and no runs at all."""
    return save_png(against_figure(runs_in(root), key), out or root / "against.png")


def against_figure(records: Sequence[RunRecord], key: str, names: bool = True) -> Figure:
    """A panel a task, a line an arm, means over seeds with their standard deviation; arms of one value are level lines.

    key: a setting such as "task.clients", or a product of several: "method.alignment.features*method.alignment.bits".
    names: whether the arms are named beside the panels (`against_looks` has them for whoever names them elsewhere).
    `ReportError` when it is no number in any finished run, or has one value only.
    """
    panels = _panels(records, key)
    values = sorted({value for lines in panels.values() for line in lines.values() for value in line})
    if len(values) < 2:
        raise ReportError(f"{key}: {'one value' if values else 'no number'} in these runs; expected several")
    look = _looks(panels)
    with drawing():
        width, height = _PANEL * len(panels) + (_KEY if names else 0.1), 4.3
        figure = blank(width, height)
        for place, (title, lines) in enumerate(sorted(panels.items())):
            axes = figure.add_axes(((0.75 + _PANEL * place) / width, 0.62 / height, 3.5 / width, 3.2 / height))
            axes.set_title(title, fontsize=9.5, color=light("ink"), loc="left")
            for name, line in lines.items():
                _draw(axes, line, look[name], values)
            _scale(axes, values, _name(key), place == 0)
        if names:
            _name_arms(figure, look)
        return figure


def against_looks(records: Sequence[RunRecord], key: str) -> dict[str, Look]:
    """How each arm of `against_figure` is drawn, best first by its mean over all points."""
    return _looks(_panels(records, key))


def _panels(records: Sequence[RunRecord], key: str) -> dict[str, Lines]:
    """By task and arm: the final accuracies at each value of the key."""
    found: dict[str, dict[str, dict[float, list[float]]]] = {}
    for run in records:
        value, accuracy = _value(run.config, key), run.summary.get("accuracy", {}).get("final")
        if value is not None and accuracy is not None and not is_pooled(run):
            title = task_title(run, without_clients="task.clients" in key)
            found.setdefault(title, {}).setdefault(_line_name(run, key), {}).setdefault(value, []).append(accuracy)
    return {
        title: {
            name: {value: spread for value, scores in sorted(line.items()) if (spread := Spread.of(scores))}
            for name, line in lines.items()
        }
        for title, lines in found.items()
    }


def _value(config: dict[str, Any], key: str) -> float | None:
    product = 1.0
    for part in key.split("*"):
        value: Any = config
        for name in part.strip().split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        product *= value
    return product


def _line_name(run: RunRecord, key: str) -> str:
    """The arm's label without what a study's grid has added of these settings."""
    name = run.label
    for part in key.split("*"):
        name = re.sub(rf"\s*\b{re.escape(part.strip().split('.')[-1])}=\S+", "", name)
    return name.rstrip(" ,") or json.dumps(settings(run), sort_keys=True)[:40]


def _name(key: str) -> str:
    return " × ".join(part.strip().split(".")[-1] for part in key.split("*"))


def _draw(axes: Axes, line: dict[float, Spread], look: Look, values: Sequence[float]) -> None:
    if len(line) == 1:
        (spread,) = line.values()
        axes.axhline(100 * spread.mean, color=look.colour, ls=(0, (4, 2)), lw=1.3, zorder=2)
        return
    x, y = list(line), [100 * spread.mean for spread in line.values()]
    low = [100 * (spread.mean - (spread.sd or 0)) for spread in line.values()]
    high = [100 * (spread.mean + (spread.sd or 0)) for spread in line.values()]
    axes.fill_between(x, low, high, color=look.colour, alpha=0.12, lw=0)
    axes.plot(x, y, color=look.colour, ls=look.linestyle, marker=look.marker or "o", ms=5, mec=light("paper"), zorder=3)


def _scale(axes: Axes, values: Sequence[float], name: str, first: bool) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if values[0] > 0 and values[-1] / values[0] >= 8:
        axes.set_xscale("log")
        shown = [v for i, v in enumerate(values) if i == 0 or math.log(v / values[0]) > 0.08 * i]
    else:
        shown = list(values)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.set_xlabel(name)
    axes.grid(True)
    if first:
        axes.set_ylabel("final test accuracy, %")


def _looks(panels: dict[str, Lines]) -> dict[str, Look]:
    scores: dict[str, list[float]] = {}
    for lines in panels.values():
        for name, line in lines.items():
            scores.setdefault(name, []).extend(spread.mean for spread in line.values())
    found = looks(Arm(name, ()) for name in scores)
    return {name: found[name] for name in sorted(scores, key=lambda name: -sum(scores[name]) / len(scores[name]))}


def _name_arms(figure: Figure, look: dict[str, Look]) -> None:
    from matplotlib.lines import Line2D

    width, height = (float(side) for side in figure.get_size_inches())
    step = min(0.27, 3.6 / len(look)) / height
    for place, name in enumerate(look):
        y, left = 1 - 0.5 / height - place * step, 1 - (_KEY - 0.15) / width
        style: dict[str, Any] = {"color": look[name].colour, "transform": figure.transFigure}
        figure.add_artist(Line2D([left, left + 0.4 / width], [y, y], ls=look[name].linestyle, lw=1.8, **style))
        marker = look[name].marker or "o"
        figure.add_artist(Line2D([left + 0.2 / width], [y], marker=marker, ms=5, ls="none", **style))
        figure.text(left + 0.5 / width, y, name, va="center", fontsize=8.5)
