"""Pieces of the page: table, key, failures, configurations, environment. Whatever comes from a file is escaped."""

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
from onebasin.report.plot_style import Look

_MARKS = {
    "o": '<circle cx="18" cy="6" r="4"/>',
    "s": '<rect x="14.3" y="2.3" width="7.4" height="7.4"/>',
    "^": '<path d="M18 1.6 22.4 10H13.6Z"/>',
    "D": '<path d="M18 1 23 6 18 11 13 6Z"/>',
    "v": '<path d="M18 10.4 22.4 2H13.6Z"/>',
    "": "",
}
_REASON_LENGTH = 300
FAILURE_HEADS = ("arm", "seed", "times", "clients", "rounds", "reason")


def swatch(look: Look) -> str:
    """The line and mark of an arm, as small as a word."""
    dashes = " ".join(f"{2 * length:g}" for length in look.dashes)
    return (
        f'<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true" style="color:var(--{look.ink})">'
        f'<line x1="1" y1="6" x2="35" y2="6" stroke="currentColor" stroke-width="2" stroke-dasharray="{dashes}"/>'
        f'<g fill="currentColor">{_MARKS[look.marker]}</g></svg>'
    )


def key(section: Section, look: Mapping[str, Look]) -> str:
    """Names of the curves, best first, with final accuracy and bytes; references are named in the figure itself."""
    items = []
    for arm in section.arms:
        if arm.is_reference:
            continue
        accuracy, total = arm.accuracy(), arm.bytes()
        figures = f"{units.percent_text(accuracy.mean)}%" if accuracy else "unfinished"
        figures += f" · {units.byte_text(total.mean)}" if total else ""
        items.append(f"<li>{swatch(look[arm.label])}<span>{escape(arm.label)}</span><small>{figures}</small></li>")
    return f'<ol class="key">{"".join(items)}</ol>'


def table(section: Section, shown: Sequence[Column], look: Mapping[str, Look], note: str) -> str:
    """A table whose headings sort it, where scripts run; every cell carries the number that it sorts by."""
    heads = "".join(
        f'<th scope="col"><button type="button" title="{escape(column.meaning)}">{escape(column.heading)}</button></th>'
        for column in shown
    )
    rows = "".join(_row(arm, shown, look[arm.label]) for arm in section.arms)
    return (
        f'<div class="scroll"><table class="sortable"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f'<p class="note">{escape(note)}</p>'
    )


def _row(arm: Arm, shown: Sequence[Column], look: Look) -> str:
    cells = []
    for place, column in enumerate(shown):
        cell = column.cell(arm)
        note = f"<small>{escape(cell.note)}</small>" if cell.note else ""
        if place == 0:
            cells.append(f'<th scope="row"><div>{swatch(look)}<span>{escape(cell.text)}{note}</span></div></th>')
        else:
            value = "" if cell.value is None else f' data-value="{cell.value!r}"'
            cells.append(f"<td{value}>{escape(cell.text)}{note}</td>")
    return f"<tr{' class=reference' if arm.is_reference else ''}>{''.join(cells)}</tr>"


def failure_rows(section: Section) -> list[tuple[str, ...]]:
    """Recorded failures, those of one arm, seed and reason in one row: arm, seed, times, clients, rounds, reason."""
    groups: dict[tuple[str, Any, str], list[tuple[int, int]]] = {}
    for arm in section.arms:
        for run in arm.runs:
            for line in run.history:
                for failure in line.get("failures", ()):
                    place = arm.label, seed_of(run), str(failure["reason"])
                    groups.setdefault(place, []).append((int(failure["client"]), int(line["round"])))
    rows: list[tuple[str, ...]] = []
    for (label, seed, reason), places in sorted(groups.items(), key=lambda item: -len(item[1])):
        clients, rounds = (units.ranges_text([place[k] for place in places]) for k in (0, 1))
        short = reason if len(reason) <= _REASON_LENGTH else reason[:_REASON_LENGTH] + "…"
        rows.append((label, "" if seed is None else str(seed), f"{len(places):,}", clients, rounds, short))
    return rows


def failures(section: Section) -> str:
    """The recorded failures as a table."""
    rows = failure_rows(section)
    if not rows:
        return "<p>None was recorded.</p>"
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    heads = "".join(f'<th scope="col">{name}</th>' for name in FAILURE_HEADS)
    return (
        f'<div class="scroll"><table class="words"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def configurations(section: Section, root: Path) -> str:
    """Each arm's configuration (that of its first seed), and for every run the command that repeats it."""
    blocks = []
    for arm in section.arms:
        commands = "".join(
            f"<li>{_status(run)}<code>{escape(command(run.directory, root))}</code></li>" for run in arm.runs
        )
        count = units.plural(len(arm.runs), "run")
        blocks.append(
            f"<details><summary>{escape(arm.label)} <small>{count}</small></summary>"
            f'<ul class="commands">{commands}</ul><pre>{escape(_toml(arm.runs[0].config))}</pre></details>'
        )
    return "".join(blocks)


def command(directory: Path | None, root: Path) -> str:
    """The command that repeats a run, from the directory that holds `root`."""
    if directory is None:
        return "(this run has no directory)"
    resolved, top = directory.resolve(), root.resolve()
    place = Path(top.name) / resolved.relative_to(top) if resolved.is_relative_to(top) else directory
    return f"onebasin run {shlex.quote((place / 'config.toml').as_posix())} --out {shlex.quote(f'{place.name}-again')}"


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
    """How many finished runs come from which commit and machine."""
    found = Counter(
        tuple((name, str(value)) for name, value in run.summary["environment"].items())
        for run in section.runs
        if run.summary.get("environment")
    )
    return [{"runs": units.plural(count, "run"), "is": dict(place)} for place, count in found.items()]


def environment(section: Section) -> str:
    """Which commit, on which machine, how many runs."""
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
