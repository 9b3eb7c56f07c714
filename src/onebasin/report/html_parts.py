"""Parts of the HTML page: tables, legend, failures, configurations, environment. All text from files is escaped."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from onebasin.report import units
from onebasin.report.arms import Arm, Section, planned_rounds, seed_of
from onebasin.report.columns import Column
from onebasin.report.plot_style import ArmStyle

_MARKER_SHAPES = {
    "o": '<circle cx="18" cy="6" r="4"/>',
    "s": '<rect x="14.3" y="2.3" width="7.4" height="7.4"/>',
    "^": '<path d="M18 1.6 22.4 10H13.6Z"/>',
    "D": '<path d="M18 1 23 6 18 11 13 6Z"/>',
    "v": '<path d="M18 10.4 22.4 2H13.6Z"/>',
    "": "",
}
_MAX_REASON_LENGTH = 300
FAILURE_HEADINGS = ("arm", "seed", "times", "clients", "rounds", "reason")


def swatch(style: ArmStyle) -> str:
    """Return a sample of an arm's line and marker as an `<svg>` element of a word's size."""
    dashes = " ".join(f"{2 * length:g}" for length in style.dashes)
    return (
        f'<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--{style.colour_name})">'
        f'<line x1="1" y1="6" x2="35" y2="6" stroke="currentColor" stroke-width="2" stroke-dasharray="{dashes}"/>'
        f'<g fill="currentColor">{_MARKER_SHAPES[style.marker]}</g></svg>'
    )


def legend(section: Section, styles: Mapping[str, ArmStyle]) -> str:
    """Return the legend of the curves, best arm first, with final accuracy and bytes.

    References are left out, since the figure itself names them.
    """
    items = []
    for arm in section.arms:
        if arm.is_reference:
            continue
        accuracy, total = arm.accuracy(), arm.bytes()
        figures = f"{units.percent_text(accuracy.mean)}%" if accuracy else "unfinished"
        figures += f" · {units.byte_text(total.mean)}" if total else ""
        items.append(f"<li>{swatch(styles[arm.label])}<span>{escape(arm.label)}</span><small>{figures}</small></li>")
    return f'<ol class="key">{"".join(items)}</ol>'


def table(section: Section, columns: Sequence[Column], styles: Mapping[str, ArmStyle], note: str) -> str:
    """Return a table that a click on a heading sorts, if scripts are enabled.

    Each cell has the number by which it is sorted as an attribute.
    """
    headings = "".join(
        f'<th scope="col"><button type="button" title="{escape(column.meaning)}">{escape(column.heading)}</button></th>'
        for column in columns
    )
    rows = "".join(_row(arm, columns, styles[arm.label]) for arm in section.arms)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="note">{escape(note)}</p>'
    )


def _row(arm: Arm, columns: Sequence[Column], style: ArmStyle) -> str:
    cells = []
    for index, column in enumerate(columns):
        cell = column.cell(arm)
        note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
        if index == 0:
            cells.append(f'<th scope="row"><div>{swatch(style)}<span>{escape(cell.text)}{note}</span></div></th>')
        else:
            value = "" if cell.value is None else f' data-value="{cell.value!r}"'
            cells.append(f"<td{value}>{escape(cell.text)}{note}</td>")
    return f"<tr{' class=reference' if arm.is_reference else ''}>{''.join(cells)}</tr>"


def failure_rows(section: Section) -> list[tuple[str, ...]]:
    """Return the recorded failures with the columns `FAILURE_HEADINGS`.

    Failures of one arm and seed for one reason share a row. The most frequent come first.
    """
    groups: dict[tuple[str, Any, str], list[tuple[int, int]]] = {}
    for arm in section.arms:
        for run in arm.runs:
            for line in run.history:
                for failure in line.get("failures", ()):
                    cause = arm.label, seed_of(run), str(failure["reason"])
                    groups.setdefault(cause, []).append((int(failure["client"]), int(line["round"])))
    rows: list[tuple[str, ...]] = []
    for (label, seed, reason), events in sorted(groups.items(), key=lambda item: -len(item[1])):
        clients = units.ranges_text([client for client, _ in events])
        rounds = units.ranges_text([round_number for _, round_number in events])
        short = reason if len(reason) <= _MAX_REASON_LENGTH else reason[:_MAX_REASON_LENGTH] + "…"
        rows.append((label, "" if seed is None else str(seed), f"{len(events):,}", clients, rounds, short))
    return rows


def failures(section: Section) -> str:
    """Return the recorded failures as a table."""
    rows = failure_rows(section)
    if not rows:
        return "<p>None was recorded.</p>"
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    headings = "".join(f'<th scope="col">{name}</th>' for name in FAILURE_HEADINGS)
    head = f"<thead><tr>{headings}</tr></thead>"
    return f'<div class="scroll"><table class="words">{head}<tbody>{body}</tbody></table></div>'


def configurations(section: Section, root: Path) -> str:
    """Return each arm's configuration (that of its first seed), with the command that repeats each of its runs."""
    blocks = []
    for arm in section.arms:
        commands = "".join(
            f"<li>{_status(run)}<code>{escape(repeat_command(run.directory, root))}</code></li>" for run in arm.runs
        )
        count = units.plural(len(arm.runs), "run")
        blocks.append(
            f"<details><summary>{escape(arm.label)} <small>{count}</small></summary>"
            f'<ul class="commands">{commands}</ul><pre>{escape(_toml(arm.runs[0].config))}</pre></details>'
        )
    return "".join(blocks)


def repeat_command(directory: Path | None, root: Path) -> str:
    """Return the command that repeats a run when it is called in the parent directory of `root`."""
    if directory is None:
        return "(this run has no directory)"
    resolved, top = directory.resolve(), root.resolve()
    path = Path(top.name) / resolved.relative_to(top) if resolved.is_relative_to(top) else directory
    return f"onebasin run {shlex.quote((path / 'config.toml').as_posix())} --out {shlex.quote(f'{path.name}-again')}"


def _status(run: Any) -> str:
    seed = seed_of(run)
    name = "" if seed is None else f"seed {seed}"
    if not run.summary:
        name += f", stopped or still running: round {len(run.history)} of {planned_rounds(run) or '?'}"
    return f"<span>{escape(name)}</span>"


def _toml(config: Mapping[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(dict(config)).strip()


def environments(section: Section) -> list[dict[str, Any]]:
    """Return, for each commit and machine (`is`), the number of finished runs in words (`runs`)."""
    counts = Counter(
        tuple((name, str(value)) for name, value in run.summary["environment"].items())
        for run in section.runs
        if run.summary.get("environment")
    )
    return [{"runs": units.plural(count, "run"), "is": dict(facts)} for facts, count in counts.items()]


def environment(section: Section) -> str:
    """Return the commits and machines of the finished runs as a list."""
    found = environments(section)
    if not found:
        return "<p>No finished run has recorded one.</p>"
    rows = [
        f"<li>{each['runs']}: "
        + ", ".join(f"{escape(name)} <code>{escape(value)}</code>" for name, value in each["is"].items())
        + "</li>"
        for each in found
    ]
    return f"<ul>{''.join(rows)}</ul>"
