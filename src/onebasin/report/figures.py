"""From a matplotlib figure to the SVG of the page, the SVG of a document and the PNG beside them."""

from __future__ import annotations

import re
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from onebasin.report.plot_style import INKS, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank(width: float, height: float) -> Figure:
    """An empty figure, in inches; drawn without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def svg_text(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for an HTML page.

    name: unique on the page; it keeps the ids of this figure apart from those of others. Colours become CSS
    variables (`--ink`, `--arm0`, ...) that fall back to the light ones; the ground is left out. Equal figures
    give equal text: no date, no random id.
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
    for ink, (colour, _) in INKS.items():
        svg = svg.replace(colour, f"var(--{ink}, {colour})")
    width, height = figure.get_size_inches()
    return re.sub(r"<svg[^>]*>", _opening_tag(width * 72, height * 72), svg, count=1).strip()


def save_svg(figure: Figure, path: Path) -> Path:
    """Write the figure as an SVG file whose letters are drawn, so that it looks alike without its font."""
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
    """Write the figure as PNG on light ground, for README files and slides; its folder is made where there is none."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=light("paper"), metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(buffer.getvalue())
    return path
