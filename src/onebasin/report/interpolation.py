"""Pictures of a merge: the loss on the way between models, and which neurons are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from onebasin.report.figures import blank
from onebasin.report.plot_style import drawing, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INKS = ("arm1", "arm0", "arm2", "arm3")
_DASHES: tuple[Any, ...] = ((0, (1.5, 1.8)), (0, (5, 2)), "-", "-.")


def paths_figure(lines: Mapping[str, Sequence[Mapping[str, Any]]], ends: tuple[str, str]) -> Figure:
    """Loss and accuracy on straight lines between models, one colour a treatment.

    lines: by treatment, each with `places` from 0 to 1, `losses` and `accuracies`. ends: what stands at 0 and at 1.
    """
    with drawing():
        figure = blank(9.0, 3.9)
        for number, (field, label) in enumerate((("losses", "test loss, nats"), ("accuracies", "test accuracy, %"))):
            axes = figure.add_axes((0.08 + 0.48 * number, 0.16, 0.4, 0.68))
            axes.grid(True, axis="y")
            for index, (name, group) in enumerate(lines.items()):
                for place, line in enumerate(group):
                    values = np.asarray(line[field]) * (100 if field == "accuracies" else 1)
                    style = {"color": light(_INKS[index % 4]), "ls": _DASHES[index % 4], "lw": 1.8}
                    if len(group) > 2:
                        style |= {"lw": 1.0, "alpha": 0.7}
                    axes.plot(line["places"], values, label=name if place == 0 else None, **style)
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


def neurons_figure(alike: Mapping[str, tuple[Any, Any]]) -> Figure:
    """Cosines between the neurons of two models, before and after matching: a column a group.

    alike: by group, two square matrices (neuron of the first model, neuron of the second).
    """
    matrices = [np.asarray(matrix, dtype=np.float64) for pair in alike.values() for matrix in pair]
    largest = max(0.1, *(float(np.abs(matrix).max()) for matrix in matrices))
    width = 2.6 * len(alike) + 1.2
    with drawing():
        figure = blank(width, 5.4)
        for number, matrix in enumerate(matrices):
            column, row = divmod(number, 2)
            axes = figure.add_axes(((0.3 + 2.6 * column) / width, 0.52 - 0.49 * row, 2.3 / width, 0.41))
            image = axes.imshow(
                matrix, cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest", aspect="auto"
            )
            axes.set_xticks([])
            axes.set_yticks([])
            name = list(alike)[column]
            axes.set_title(f"{name}, as they were" if row == 0 else "matched", fontsize=9, color=light("ink"))
        bar = figure.add_axes((1 - 0.85 / width, 0.3, 0.12 / width, 0.4))
        figure.colorbar(image, cax=bar, ticks=[-largest, 0, largest], format="%.1f")
        bar.set_title("cosine", fontsize=8.5, color=light("muted"))
        return figure
