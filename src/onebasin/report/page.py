"""The written report: one HTML file that needs nothing beside itself, and the main figure as a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from onebasin.report import html_parts
from onebasin.report.aggregate import runs_in, sections
from onebasin.report.arms import Section
from onebasin.report.bars import BYTES_CAPTION, bytes_figure
from onebasin.report.baseline import find_baseline
from onebasin.report.columns import columns
from onebasin.report.curves import FRONTIER_CAPTION, ROUNDS_CAPTION, frontier_figure, rounds_figure
from onebasin.report.figures import save_png, svg_text
from onebasin.report.findings import compared, findings, lead, warnings
from onebasin.report.holdings import section_holdings
from onebasin.report.mask_curves import MASKS_CAPTION, masks_figure
from onebasin.report.plot_style import Look, looks
from onebasin.report.stylesheet import SCRIPT, STYLE
from onebasin.report.table import COST_NOTE, footnote

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header><h1>$title</h1><p class="lead">$lead</p>$contents</header>
<main>$sections</main>
<footer><p>Drawn from the run directories alone. Bytes are counted on serialized messages, headers included;
1 kB = 1000 bytes.</p></footer>
<script>$script</script>
</body>
</html>
""")

_SECTION = Template("""
<section id="$anchor">
<h2>$title</h2>
<p class="lead">$compared</p>
<ul class="findings">$findings</ul>
$warnings
<h3>Accuracy against bytes</h3>
$frontier
<h3>Comparison</h3>
$outcome
<h3>Accuracy against rounds</h3>
$rounds
<h3>Where the bytes went</h3>
$bytes
$cost
$masks
<h3>Who holds what</h3>
$holdings
<h3>Failures</h3>
$failures
<h3>Configurations</h3>
<p class="lead">Each command repeats one run, from the directory that holds <code>$root</code>.</p>
$configurations
<h3>Environment</h3>
$environment
</section>
""")


def write_report(root: Path, out: Path | None = None, baseline: str | None = None) -> Path:
    """Write the report on every run under `root` and return its path.

    out: the HTML file, or a directory for `report.html`; left out, `root/report.html`. `frontier.png` is written
    beside it (`frontier-2.png`, ... for further tasks). baseline: the label of the arm that savings are measured
    against; left out, FedAvg in fp32.
    Raises ReportError when there is no run directory under `root` or no arm called `baseline`, ValueError when a
    run directory is damaged.
    """
    root = Path(root)
    records = runs_in(root)
    found = sections(records)
    if baseline is not None:
        find_baseline([arm for section in found for arm in section.arms], baseline)
    look = looks(arm for section in found for arm in section.arms)
    target = _target(root, out)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_page(found, look, root, baseline), encoding="utf-8")
    for number, section in enumerate(found, 1):
        name = "frontier.png" if number == 1 else f"frontier-{number}.png"
        save_png(frontier_figure(section, look), target.with_name(name))
    return target


def _target(root: Path, out: Path | None) -> Path:
    if out is None:
        return root / "report.html"
    return out if out.suffix.lower() in (".html", ".htm") else out / "report.html"


def _page(found: list[Section], look: Mapping[str, Look], root: Path, baseline: str | None) -> str:
    name = root.resolve().name
    links = "".join(f'<li><a href="#task{n}">{escape(s.title)}</a></li>' for n, s in enumerate(found, 1))
    return _PAGE.substitute(
        title=escape(f"onebasin: {name}"),
        style=STYLE,
        script=SCRIPT,
        lead=lead(found),
        contents=f"<nav><ul>{links}</ul></nav>" if len(found) > 1 else "",
        sections="".join(_section(section, look, root, number, baseline) for number, section in enumerate(found, 1)),
    )


def _section(section: Section, look: Mapping[str, Look], root: Path, number: int, baseline: str | None) -> str:
    name = f"task{number}"
    shown = columns(section, baseline)
    cost = [shown[0], *(column for column in shown if column.group == "cost")]
    cautions = "".join(f"<li>{escape(text)}</li>" for text in warnings(section))
    key = html_parts.key(section, look)
    return _SECTION.substitute(
        anchor=name,
        title=escape(section.title),
        compared=escape(compared(section, baseline)),
        findings="".join(f"<li>{escape(text)}</li>" for text in findings(section, baseline)),
        warnings=f'<ul class="warnings">{cautions}</ul>' if cautions else "",
        frontier=_plot(frontier_figure(section, look, key=False), f"{name}-frontier", FRONTIER_CAPTION, key),
        outcome=html_parts.table(section, [c for c in shown if c.group == "outcome"], look, footnote(section)),
        rounds=_plot(rounds_figure(section, look, key=False), f"{name}-rounds", ROUNDS_CAPTION, key),
        bytes=_plot(bytes_figure(section), f"{name}-bytes", BYTES_CAPTION),
        cost=html_parts.table(section, cost, look, COST_NOTE),
        masks=_masks(section, name),
        holdings=_holdings(section, name),
        failures=html_parts.failures(section),
        root=escape(root.resolve().name),
        configurations=html_parts.configurations(section, root),
        environment=html_parts.environment(section),
    )


def _plot(figure: Figure | None, name: str, caption: str, key: str = "") -> str:
    if figure is None:
        return "<p>No run is finished yet.</p>"
    widest = float(figure.get_size_inches()[0]) * 104
    svg = svg_text(figure, name).replace("<svg ", f'<svg aria-label="{escape(caption)}" ', 1)
    plot = f'<div class="scroll plot" style="max-width:{widest:.0f}px">{svg}</div>'
    body = f'<div class="withkey">{plot}{key}</div>' if key else plot
    return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"


def _masks(section: Section, name: str) -> str:
    figure = masks_figure(section)
    return f"<h3>What masks keep</h3>{_plot(figure, f'{name}-masks', MASKS_CAPTION)}" if figure else ""


def _holdings(section: Section, name: str) -> str:
    shown = section_holdings(section)
    return _plot(shown[0], f"{name}-holdings", shown[1]) if shown else "<p>Not recorded for this task.</p>"
