"""Creation of matplotlib figures, and their conversion to SVG (for the page and the documents) and PNG."""

from __future__ import annotations

import re
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.report.plot_style import COLOURS, light_colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of this size in inches, which needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def svg_text(figure: Figure, name: str) -> str:
    """Return the figure as an `<svg>` element for an HTML page.

    name: unique on the page, so that the ids in this figure differ from those of other figures. Each colour becomes a
    CSS variable (`--ink`, `--arm0`, ...) whose fallback is the light theme's colour. The background is transparent.
    Equal figures give equal text, without a date or random ids.
    """
    import matplotlib

    buffer = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    for colour_name, (colour, _) in COLOURS.items():
        svg = svg.replace(colour, f"var(--{colour_name}, {colour})")
    width, height = figure.get_size_inches()
    return re.sub(r"<svg[^>]*>", _opening_tag(width * 72, height * 72), svg, count=1).strip()


def save_svg(figure: Figure, path: Path) -> Path:
    """Write the figure as an SVG file with text as outlines, so that it looks the same without its font."""
    import matplotlib

    buffer = StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "onebasin", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    path.write_text(re.sub(r"<!--.*?-->\s*", "", buffer.getvalue(), flags=re.DOTALL), encoding="utf-8")
    return path


def _opening_tag(width: float, height: float) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width:g} {height:g}" role="img">'
    )


def save_png(figure: Figure, path: Path, dpi: int = 160) -> Path:
    """Write the figure as a PNG file on the light background, for README files and slides; create its folder."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=light_colour("paper"), metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path
