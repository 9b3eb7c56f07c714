"""Colours, markers and line styles of the figures.

An arm has the same style in every figure. Styles can be distinguished in the light and the dark theme and without
colour vision. Figures are drawn in the light theme's colours; on the HTML page each colour becomes a CSS variable, so
that one drawing serves both themes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from onebasin.report.arms import BYTE_KINDS, Arm

# Name -> (light theme, dark theme). The hues follow Okabe & Ito (2008), darkened or lightened for contrast with the
# background of their theme.
COLOURS = {
    "ink": ("#1c2024", "#e8eaed"),
    "muted": ("#626a73", "#9aa4af"),
    "rule": ("#dfe3e8", "#333a42"),
    "paper": ("#fefefe", "#14171a"),
    "reference": ("#7a828c", "#8b95a1"),
    "arm0": ("#0069b4", "#58b0f0"),
    "arm1": ("#c24400", "#ff8a40"),
    "arm2": ("#00916b", "#2ccfa0"),
    "arm3": ("#b5478b", "#ee9bcb"),
    "arm4": ("#c99413", "#f5cf57"),
    "arm5": ("#47b0e0", "#a9dcf8"),
    "arm6": ("#4b2391", "#9270ea"),
    "arm7": ("#7d2b1f", "#d98d7c"),
    "up": ("#1f5f8b", "#4d9fd6"),
    "down": ("#9cc3de", "#a8cfe8"),
    "init": ("#e3a44f", "#e9b161"),
    "align": ("#a8527f", "#d883ae"),
    "bubble": ("#2b6c99", "#6fb4e3"),
}
KIND_NAMES = {
    "up": "up (clients to server)",
    "down": "down (server to clients)",
    "init": "initial weights",
    "align": "alignment",
}
assert set(KIND_NAMES) == set(BYTE_KINDS)

_ARM_COLOUR_COUNT = sum(name.startswith("arm") for name in COLOURS)
_MARKERS = ("o", "s", "^", "D", "v")
_ARM_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.8))
_REFERENCE_DASHES: tuple[tuple[float, ...], ...] = ((6, 3), (2, 2.5), (8, 2.5, 2, 2.5))


@dataclass(frozen=True)
class ArmStyle:
    """How an arm is drawn.

    colour_name: a key of `COLOURS`. marker: in matplotlib's notation, "" for none. dashes: alternating lengths of
    dashes and gaps in multiples of the line width, empty for a solid line.
    """

    colour_name: str
    marker: str
    dashes: tuple[float, ...]

    @property
    def colour(self) -> str:
        """The colour in the light theme, such as "#0069b4"."""
        return COLOURS[self.colour_name][0]

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        """The line style in matplotlib's notation."""
        return (0, self.dashes) if self.dashes else "-"


def arm_styles(arms: Iterable[Arm]) -> dict[str, ArmStyle]:
    """Return a style for each label, assigned in alphabetical order; references have grey dashes without markers."""
    styles: dict[str, ArmStyle] = {}
    federated = references = 0
    for arm in sorted(arms, key=lambda arm: arm.label):
        if arm.label in styles:
            continue
        if arm.is_reference:
            styles[arm.label] = ArmStyle("reference", "", _REFERENCE_DASHES[references % len(_REFERENCE_DASHES)])
            references += 1
        else:
            dashes = _ARM_DASHES[federated // _ARM_COLOUR_COUNT % len(_ARM_DASHES)]
            styles[arm.label] = ArmStyle(
                f"arm{federated % _ARM_COLOUR_COUNT}", _MARKERS[federated % len(_MARKERS)], dashes
            )
            federated += 1
    return styles


def light_colour(name: str) -> str:
    """Return a colour of `COLOURS` in the light theme."""
    return COLOURS[name][0]


@contextmanager
def plot_settings() -> Iterator[None]:
    """Set matplotlib's options for a figure, and restore the previous ones afterwards.

    They are set explicitly so that equal data give equal files.
    """
    import matplotlib

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.parse_math": False,  # a label may contain a $
        "text.color": light_colour("ink"),
        "axes.edgecolor": light_colour("muted"),
        "axes.labelcolor": light_colour("muted"),
        "axes.facecolor": "none",
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.facecolor": light_colour("paper"),
        "grid.color": light_colour("rule"),
        "grid.linewidth": 0.8,
        "xtick.color": light_colour("muted"),
        "ytick.color": light_colour("muted"),
        "xtick.minor.visible": False,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
    with matplotlib.rc_context(settings):
        yield
