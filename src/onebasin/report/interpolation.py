"""Figures of a merge: the loss on straight lines between models, and the similarity of their neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.report.figures import new_figure
from onebasin.report.plot_style import light_colour, plot_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE_COLOURS = ("arm1", "arm0", "arm2", "arm3")
_LINE_STYLES: tuple[Any, ...] = ((0, (1.5, 1.8)), (0, (5, 2)), "-", "-.")


def paths_figure(lines: Mapping[str, Sequence[Mapping[str, Any]]], ends: tuple[str, str]) -> Figure:
    """Draw test loss and accuracy on straight lines between models.

    lines: for each treatment of the models (such as "aligned"), which has one colour, its lines. A line has three
    sequences of equal length: `places` (positions from 0 to 1), `losses` (nats) and `accuracies` (in [0, 1]).
    ends: the labels at the positions 0 and 1.
    """
    with plot_settings():
        figure = new_figure(9.0, 3.9)
        for number, (field, label) in enumerate((("losses", "test loss, nats"), ("accuracies", "test accuracy, %"))):
            axes = figure.add_axes((0.08 + 0.48 * number, 0.16, 0.4, 0.68))
            axes.grid(True, axis="y")
            for index, (name, group) in enumerate(lines.items()):
                for number_in_group, line in enumerate(group):
                    values = np.asarray(line[field]) * (100 if field == "accuracies" else 1)
                    style = {"color": light_colour(_LINE_COLOURS[index % 4]), "ls": _LINE_STYLES[index % 4], "lw": 1.8}
                    if len(group) > 2:
                        style |= {"lw": 1.0, "alpha": 0.7}
                    axes.plot(line["places"], values, label=name if number_in_group == 0 else None, **style)
            axes.set_xlim(0, 1)
            axes.set_xticks([0, 0.5, 1], [ends[0], "halfway", ends[1]])
            first, _, last = axes.get_xticklabels()
            first.set_horizontalalignment("left")
            last.set_horizontalalignment("right")
            axes.set_ylabel(label)
            if field == "losses":
                axes.set_ylim(bottom=0)
        handles, names = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="upper center", ncols=len(names), frameon=False)
        return figure


def neurons_figure(cosines: Mapping[str, tuple[Any, Any]]) -> Figure:
    """Draw the cosines between the neurons of two models before and after matching, one column per group.

    cosines: by group, the matrices before and after matching, [n, n]: neuron of the first model, of the second.
    """
    matrices = [np.asarray(matrix, dtype=np.float64) for pair in cosines.values() for matrix in pair]
    largest = max(0.1, *(float(np.abs(matrix).max()) for matrix in matrices))
    width = 2.6 * len(cosines) + 1.2
    with plot_settings():
        figure = new_figure(width, 5.4)
        for number, matrix in enumerate(matrices):
            column, row = divmod(number, 2)
            axes = figure.add_axes(((0.3 + 2.6 * column) / width, 0.52 - 0.49 * row, 2.3 / width, 0.41))
            image = axes.imshow(
                matrix, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest", aspect="auto"
            )
            axes.set_xticks([])
            axes.set_yticks([])
            name = list(cosines)[column]
            axes.set_title(f"{name}, as they were" if row == 0 else "matched", fontsize=9, color=light_colour("ink"))
        bar = figure.add_axes((1 - 0.85 / width, 0.3, 0.12 / width, 0.4))
        figure.colorbar(image, cax=bar, ticks=[-largest, 0, largest], format="%.1f")
        bar.set_title("cosine", fontsize=8.5, color=light_colour("muted"))
        return figure
