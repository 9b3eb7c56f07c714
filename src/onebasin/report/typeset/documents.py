"""The report and the slides of any folder of runs: one layout, filled from the sections that the HTML page shows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onebasin.report.aggregate import runs_in, sections
from onebasin.report.arms import Section
from onebasin.report.columns import columns
from onebasin.report.findings import compared, findings, lead, warnings
from onebasin.report.html_parts import command, environments, failure_rows
from onebasin.report.table import COST_NOTE, footnote
from onebasin.report.typeset.compiling import FILES, STUDY, Kind, furnish, set_document
from onebasin.report.typeset.pieces import Piece, PlotName, section_plot, section_table

_PLOTS: tuple[PlotName, ...] = ("frontier", "rounds", "bytes", "holdings")


def write_documents(root: Path, kinds: Sequence[Kind], out: Path | None = None) -> list[Path]:
    """Write `report.pdf` and `slides.pdf` (as `kinds` asks) about every run under `root` and return their paths.

    out: a folder, or a file where one kind is asked for; left out, `root`. Raises as `write_report`, and ReportError
    when typst is missing.
    """
    found = sections(runs_in(root))
    with TemporaryDirectory() as name:
        folder = Path(name)
        study = {
            "title": root.resolve().name,
            "lead": lead(found),
            "sections": [_section(section, root, folder, place) for place, section in enumerate(found, 1)],
        }
        shutil.copytree(STUDY, folder, dirs_exist_ok=True)
        furnish(folder, {"pieces": {}, "study": study})
        return [set_document(folder, kind, target_of(kind, root, out)) for kind in kinds]


def target_of(kind: Kind, root: Path, out: Path | None) -> Path:
    """Where a document goes: `out` if that is a file's name, else its own name in `out` or `root`."""
    name = FILES[kind][1]
    if out is not None and out.suffix.lower() == Path(name).suffix:
        return out
    return (out or root) / name


def _section(section: Section, root: Path, folder: Path, place: int) -> Piece:
    shown = columns(section)
    outcome = [c for c in shown if c.group == "outcome" and not c.heading.startswith(("best", "last 10"))]
    cost = [shown[0], *(c for c in shown if c.group == "cost")]
    return {
        "title": section.title,
        "compared": compared(section),
        "findings": findings(section),
        "warnings": warnings(section),
        **{name: section_plot(name, section, folder / f"{name}-{place}.svg") for name in _PLOTS},
        "outcome": section_table(section, outcome, footnote(section)),
        "cost": section_table(section, cost, COST_NOTE),
        "failures": failure_rows(section),
        "commands": [
            {"arm": arm.label, "command": command(arm.runs[0].directory, root)}
            for arm in section.arms
            if arm.runs[0].directory
        ],
        "environments": environments(section),
    }
