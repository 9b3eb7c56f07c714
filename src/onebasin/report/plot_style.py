"""Colours and marks: one look an arm through all figures, told apart without colour vision, in light and in dark.

Figures are drawn in the light colours. On the page each colour becomes a CSS variable, so that one drawing
serves both themes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from onebasin.report.arms import BYTE_KINDS, Arm

# (light, dark); hues in the manner of Okabe & Ito (2008), darkened or lightened to keep contrast on their ground.
INKS = {
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

_COLOURS = sum(name.startswith("arm") for name in INKS)
_MARKERS = ("o", "s", "^", "D", "v")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.8))
_REFERENCE_DASHES: tuple[tuple[float, ...], ...] = ((6, 3), (2, 2.5), (8, 2.5, 2, 2.5))


@dataclass(frozen=True)
class Look:
    """How an arm is drawn: the name of its ink, the mark at its points, its dashes (empty for a solid line)."""

    ink: str
    marker: str
    dashes: tuple[float, ...]

    @property
    def colour(self) -> str:
        return INKS[self.ink][0]

    @property
    def linestyle(self) -> str | tuple[int, tuple[float, ...]]:
        return (0, self.dashes) if self.dashes else "-"


def looks(arms: Iterable[Arm]) -> dict[str, Look]:
    """A look for every label, in alphabetical order; references in grey dashes without marks."""
    found: dict[str, Look] = {}
    coloured = grey = 0
    for arm in sorted(arms, key=lambda arm: arm.label):
        if arm.label in found:
            continue
        if arm.is_reference:
            found[arm.label] = Look("reference", "", _REFERENCE_DASHES[grey % len(_REFERENCE_DASHES)])
            grey += 1
        else:
            dashes = _DASHES[coloured // _COLOURS % len(_DASHES)]
            found[arm.label] = Look(f"arm{coloured % _COLOURS}", _MARKERS[coloured % len(_MARKERS)], dashes)
            coloured += 1
    return found


def light(name: str) -> str:
    """The colour of an ink on light ground."""
    return INKS[name][0]


@contextmanager
def drawing() -> Iterator[None]:
    """Matplotlib settings for every figure, undone afterwards; the file's bytes depend on the data alone."""
    import matplotlib

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        "text.parse_math": False,  # a label may hold a $
        "text.color": light("ink"),
        "axes.edgecolor": light("muted"),
        "axes.labelcolor": light("muted"),
        "axes.facecolor": "none",
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "figure.facecolor": light("paper"),
        "grid.color": light("rule"),
        "grid.linewidth": 0.8,
        "xtick.color": light("muted"),
        "ytick.color": light("muted"),
        "xtick.minor.visible": False,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
    with matplotlib.rc_context(settings):
        yield
