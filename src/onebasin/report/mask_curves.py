"""What masks keep, layer by layer, and the bits that they take, over the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onebasin.report.arms import Arm, Section
from onebasin.report.curves import spread_apart
from onebasin.report.figures import blank
from onebasin.report.plot_style import INKS, drawing, light

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from onebasin.results.records import RunRecord

MASKS_CAPTION = (
    "Left: the share of a layer's weights that the common model keeps. Right: the entropy of a draw from its chances, "
    "layer by layer, in bits a weight; dashed: the bits a parameter that a client's reply really took, all in. First "
    "seed of each arm."
)
_WIDTH, _LEFT, _PANEL, _BETWEEN = 8.75, 0.45, 2.6, 1.5
_ROW, _GAP, _TOP, _BOTTOM = 1.75, 0.6, 0.35, 0.15
_LONGEST = 17


@dataclass(frozen=True)
class _Course:
    """A quantity of one layer over the rounds; coded: of whole replies, as they were sent."""

    name: str
    rounds: list[int]
    values: list[float]
    coded: bool = False


def masks_figure(section: Section) -> Figure | None:
    """A row an arm that trains masks: what is kept, and what it takes to say; None where no arm does."""
    rows = [(arm, run) for arm in section.arms if (run := _first_masked(arm)) is not None]
    if not rows:
        return None
    with drawing():
        height = _TOP + len(rows) * (_ROW + _GAP) + _BOTTOM
        figure = blank(_WIDTH, height)
        for number, (arm, run) in enumerate(rows):
            bottom = height - _TOP - number * (_ROW + _GAP) - _ROW
            for column, (title, courses) in enumerate(
                (("kept, %", _layers(run, "kept", 100.0)), ("bits", [*_layers(run, "entropy", 1.0), *_replies(run)]))
            ):
                left = _LEFT + column * (_PANEL + _BETWEEN)
                place = (left / _WIDTH, bottom / height, _PANEL / _WIDTH, _ROW / height)
                axes = figure.add_axes(place)
                _draw(axes, courses, number == len(rows) - 1)
                axes.set_title(f"{arm.label}: {title}", loc="left", fontsize=9, color=light("ink"), pad=5)
        return figure


def _first_masked(arm: Arm) -> RunRecord | None:
    return next((run for run in arm.finished or arm.unfinished if any("masks" in line for line in run.history)), None)


def _layers(run: RunRecord, what: str, scale: float) -> list[_Course]:
    lines = [line for line in run.history if "masks" in line]
    layers = list(lines[0]["masks"])
    return [
        _Course(layer, [line["round"] for line in lines], [scale * line["masks"][layer][what] for line in lines])
        for layer in layers
        if all(what in line["masks"][layer] for line in lines)
    ]


def _replies(run: RunRecord) -> list[_Course]:
    """Bits a parameter that a reply of each round took on average."""
    parameters = run.summary.get("parameters")
    if not parameters:
        return []
    rounds, bits, before = [], [], 0
    for line in run.history:
        sent = line["bytes"]["up"] - before
        before = line["bytes"]["up"]
        if line.get("replies"):
            rounds.append(line["round"])
            bits.append(8 * sent / line["replies"] / parameters)
    return [_Course("coded, up", rounds, bits, coded=True)]


def _draw(axes: Axes, courses: list[_Course], last: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    colours = [colour for name, (colour, _) in INKS.items() if name.startswith("arm")]
    ends = []
    for number, course in enumerate(courses):
        colour = light("ink") if course.coded else colours[number % len(colours)]
        axes.plot(course.rounds, course.values, lw=1.6, color=colour, ls=(0, (4, 2)) if course.coded else "-")
        ends.append((course.values[-1], course.name, colour))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.set_ylim(bottom=0)
    axes.grid(True)
    axes.tick_params(length=3, labelsize=8.5)
    if last:
        axes.set_xlabel("round", labelpad=4)
    ends.sort()
    low, high = axes.get_ylim()
    heights = spread_apart([(value - low) / (high - low) for value, _, _ in ends], 0.1)
    for (_, name, colour), height in zip(ends, heights, strict=True):
        axes.annotate(
            _short(name), (1, height), xycoords="axes fraction", xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8.5, color=colour, annotation_clip=False,
        )  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
