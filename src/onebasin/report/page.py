"""The HTML report: one self-contained page on all runs, and its main figure as a PNG file."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from onebasin.report import html_parts
from onebasin.report.aggregate import read_runs, sections
from onebasin.report.arms import Section
from onebasin.report.bars import BYTES_CAPTION, bytes_figure
from onebasin.report.baseline import find_baseline
from onebasin.report.columns import columns
from onebasin.report.curves import FRONTIER_CAPTION, ROUNDS_CAPTION, frontier_figure, rounds_figure
from onebasin.report.figures import save_png, svg_text
from onebasin.report.findings import findings, lead_sentence, scope_sentence, warnings
from onebasin.report.holdings import section_holdings
from onebasin.report.mask_curves import MASKS_CAPTION, masks_figure
from onebasin.report.plot_style import ArmStyle, arm_styles
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
    """Write the report on every run under `root`, and return its path.

    The figure of accuracy against bytes is written beside it as `frontier.png` (`frontier-2.png`, ... for further
    tasks).
    out: the HTML file, or a directory for `report.html` (default: `root`).
    baseline: the label of the arm against which savings are measured (default: FedAvg in fp32).
    Raises ReportError when there is no run under `root` or no arm with the label `baseline`, ValueError when a run
    directory is damaged.
    """
    root = Path(root)
    all_sections = sections(read_runs(root))
    if baseline is not None:
        find_baseline([arm for section in all_sections for arm in section.arms], baseline)
    styles = arm_styles(arm for section in all_sections for arm in section.arms)
    path = _output_path(root, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_page(all_sections, styles, root, baseline), encoding="utf-8")
    for number, section in enumerate(all_sections, 1):
        name = "frontier.png" if number == 1 else f"frontier-{number}.png"
        save_png(frontier_figure(section, styles), path.with_name(name))
    return path


def _output_path(root: Path, out: Path | None) -> Path:
    if out is None:
        return root / "report.html"
    return out if out.suffix.lower() in (".html", ".htm") else out / "report.html"


def _page(all_sections: list[Section], styles: Mapping[str, ArmStyle], root: Path, baseline: str | None) -> str:
    name = root.resolve().name
    numbered = list(enumerate(all_sections, 1))
    links = "".join(f'<li><a href="#task{n}">{escape(section.title)}</a></li>' for n, section in numbered)
    return _PAGE.substitute(
        title=escape(f"onebasin: {name}"),
        style=STYLE,
        script=SCRIPT,
        lead=lead_sentence(all_sections),
        contents=f"<nav><ul>{links}</ul></nav>" if len(all_sections) > 1 else "",
        sections="".join(_section(section, styles, root, number, baseline) for number, section in numbered),
    )


def _section(section: Section, styles: Mapping[str, ArmStyle], root: Path, number: int, baseline: str | None) -> str:
    name = f"task{number}"
    all_columns = columns(section, baseline)
    outcome = [column for column in all_columns if column.group == "outcome"]
    cost = [all_columns[0], *(column for column in all_columns if column.group == "cost")]
    warning_items = "".join(f"<li>{escape(text)}</li>" for text in warnings(section))
    legend = html_parts.legend(section, styles)
    frontier = frontier_figure(section, styles, legend=False)
    rounds = rounds_figure(section, styles, legend=False)
    return _SECTION.substitute(
        anchor=name,
        title=escape(section.title),
        compared=escape(scope_sentence(section, baseline)),
        findings="".join(f"<li>{escape(text)}</li>" for text in findings(section, baseline)),
        warnings=f'<ul class="warnings">{warning_items}</ul>' if warning_items else "",
        frontier=_plot(frontier, f"{name}-frontier", FRONTIER_CAPTION, legend),
        outcome=html_parts.table(section, outcome, styles, footnote(section)),
        rounds=_plot(rounds, f"{name}-rounds", ROUNDS_CAPTION, legend),
        bytes=_plot(bytes_figure(section), f"{name}-bytes", BYTES_CAPTION),
        cost=html_parts.table(section, cost, styles, COST_NOTE),
        masks=_masks(section, name),
        holdings=_holdings(section, name),
        failures=html_parts.failures(section),
        root=escape(root.resolve().name),
        configurations=html_parts.configurations(section, root),
        environment=html_parts.environment(section),
    )


def _plot(figure: Figure | None, name: str, caption: str, legend: str = "") -> str:
    if figure is None:
        return "<p>No run is finished yet.</p>"
    max_width = float(figure.get_size_inches()[0]) * 104  # CSS pixels
    svg = svg_text(figure, name).replace("<svg ", f'<svg aria-label="{escape(caption)}" ', 1)
    plot = f'<div class="scroll plot" style="max-width:{max_width:.0f}px">{svg}</div>'
    body = f'<div class="withkey">{plot}{legend}</div>' if legend else plot
    return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"


def _masks(section: Section, name: str) -> str:
    figure = masks_figure(section)
    return f"<h3>What masks keep</h3>{_plot(figure, f'{name}-masks', MASKS_CAPTION)}" if figure else ""


def _holdings(section: Section, name: str) -> str:
    holdings = section_holdings(section)
    return _plot(holdings[0], f"{name}-holdings", holdings[1]) if holdings else "<p>Not recorded for this task.</p>"
