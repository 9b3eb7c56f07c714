"""The written report: one HTML file that needs nothing beside itself, and the main figure as a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from onebasin.report import fragments, units
from onebasin.report.aggregate import sections
from onebasin.report.arms import Arm, ReportError, Section, seed_of
from onebasin.report.bars import bytes_figure
from onebasin.report.baseline import find_baseline, section_baseline
from onebasin.report.columns import columns
from onebasin.report.curves import frontier_figure, rounds_figure
from onebasin.report.figures import save_png, svg_text
from onebasin.report.findings import findings, warnings
from onebasin.report.holdings import holdings_figure
from onebasin.report.ink import Look, looks
from onebasin.report.stylesheet import SCRIPT, STYLE
from onebasin.report.table import footnote

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
    from onebasin.results.records import find_runs

    root = Path(root)
    if not root.is_dir():
        raise ReportError(f"{root}: no such directory; expected one that holds run directories")
    records = find_runs(root)
    if not records:
        raise ReportError(
            f"{root}: holds no run directory. A run directory holds config.toml, history.jsonl and, once the run "
            "is finished, summary.json; `onebasin run METHOD --out DIR` makes one"
        )
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
    runs = sum(len(section.runs) for section in found)
    name = root.resolve().name
    links = "".join(f'<li><a href="#task{n}">{escape(s.title)}</a></li>' for n, s in enumerate(found, 1))
    return _PAGE.substitute(
        title=escape(f"onebasin: {name}"),
        style=STYLE,
        script=SCRIPT,
        lead=f"{units.plural(runs, 'run')} on {units.plural(len(found), 'task')}: accuracy, and the bytes it cost.",
        contents=f"<nav><ul>{links}</ul></nav>" if len(found) > 1 else "",
        sections="".join(_section(section, look, root, number, baseline) for number, section in enumerate(found, 1)),
    )


def _section(section: Section, look: Mapping[str, Look], root: Path, number: int, baseline: str | None) -> str:
    name = f"task{number}"
    shown = columns(section, baseline)
    cost = [shown[0], *(column for column in shown if column.group == "cost")]
    cautions = "".join(f"<li>{escape(text)}</li>" for text in warnings(section))
    key = fragments.key(section, look)
    return _SECTION.substitute(
        anchor=name,
        title=escape(section.title),
        compared=escape(_compared(section, section_baseline(section, baseline))),
        findings="".join(f"<li>{escape(text)}</li>" for text in findings(section, baseline)),
        warnings=f'<ul class="warnings">{cautions}</ul>' if cautions else "",
        frontier=_plot(frontier_figure(section, look, key=False), f"{name}-frontier", _FRONTIER_CAPTION, key),
        outcome=fragments.table(section, [c for c in shown if c.group == "outcome"], look, footnote(section)),
        rounds=_plot(rounds_figure(section, look, key=False), f"{name}-rounds", _ROUNDS_CAPTION, key),
        bytes=_plot(bytes_figure(section), f"{name}-bytes", _BYTES_CAPTION),
        cost=fragments.table(section, cost, look, "Means over finished runs; multicast: one downlink for all clients."),
        holdings=_holdings(section, name),
        failures=fragments.failures(section),
        root=escape(root.resolve().name),
        configurations=fragments.configurations(section, root),
        environment=fragments.environment(section),
    )


_FRONTIER_CAPTION = (
    "Up and to the left is better. Mean over seeds, band of one standard deviation; a curve starts with what round 1 "
    "had cost and ends in its mark. Dashed: references, for which no model travels. Dotted: sending the data instead."
)
_ROUNDS_CAPTION = "Mean over seeds, band of one standard deviation. A round is not a unit of cost."
_BYTES_CAPTION = "Means over finished runs. On the right each arm's own total is 100%, so that small ones can be read."


def _compared(section: Section, base: Arm | None) -> str:
    federated = sum(not arm.is_reference for arm in section.arms)
    seeds = sorted({len(arm.runs) for arm in section.arms})
    span = units.plural(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    text = f"{units.plural(federated, 'federated arm')} and {units.plural(len(section.arms) - federated, 'reference')}"
    return f"{text}, {span} each." + (f" Savings are measured against {base.label}." if base else "")


def _plot(figure: Figure | None, name: str, caption: str, key: str = "") -> str:
    if figure is None:
        return "<p>No run is finished yet.</p>"
    widest = float(figure.get_size_inches()[0]) * 104
    svg = svg_text(figure, name).replace("<svg ", f'<svg aria-label="{escape(caption)}" ', 1)
    plot = f'<div class="scroll plot" style="max-width:{widest:.0f}px">{svg}</div>'
    body = f'<div class="withkey">{plot}{key}</div>' if key else plot
    return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"


def _holdings(section: Section, name: str) -> str:
    holders = [run for run in section.runs if run.holdings.get("classes") and run.holdings.get("counts")]
    if not holders:
        return "<p>Not recorded for this task.</p>"
    most = max(len(run.holdings["counts"]) for run in holders)  # pooled training sees a single holder
    holders = [run for run in holders if len(run.holdings["counts"]) == most]
    first = min(holders, key=lambda run: (seed_of(run) is None, seed_of(run)))
    figure = holdings_figure([str(label) for label in first.holdings["classes"]], first.holdings["counts"])
    differ = any(run.holdings != first.holdings for run in holders)
    caption = f"Seed {seed_of(first)}; other seeds divide the data anew." if differ else "The same for every run."
    return _plot(figure, f"{name}-holdings", f"Training examples of each class with each client. {caption}")
