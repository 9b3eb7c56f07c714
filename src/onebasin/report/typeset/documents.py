"""The standard report and slides about any folder of runs, with the same sections as the HTML page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onebasin.report.aggregate import read_runs, sections
from onebasin.report.arms import Section
from onebasin.report.columns import columns
from onebasin.report.findings import findings, lead_sentence, scope_sentence, warnings
from onebasin.report.html_parts import environments, failure_rows, repeat_command
from onebasin.report.table import COST_NOTE, footnote
from onebasin.report.typeset.compiling import FILES, STANDARD_TEXT, Kind, compile_document, write_layout
from onebasin.report.typeset.pieces import Piece, PlotName, section_plot, section_table

_PLOTS: tuple[PlotName, ...] = ("frontier", "rounds", "bytes", "holdings")


def write_documents(root: Path, kinds: Sequence[Kind], out: Path | None = None) -> list[Path]:
    """Write one document of each kind about every run under `root`, and return their paths.

    out: a folder, or a file if there is only one kind (default: `root`).
    Raises the errors of `write_report`, and ReportError when typst is not installed.
    """
    all_sections = sections(read_runs(root))
    with TemporaryDirectory() as name:
        folder = Path(name)
        study = {
            "title": root.resolve().name,
            "lead": lead_sentence(all_sections),
            "sections": [_section(section, root, folder, number) for number, section in enumerate(all_sections, 1)],
        }
        shutil.copytree(STANDARD_TEXT, folder, dirs_exist_ok=True)
        write_layout(folder, {"pieces": {}, "study": study})
        return [compile_document(folder, kind, output_path(kind, root, out)) for kind in kinds]


def output_path(kind: Kind, root: Path, out: Path | None) -> Path:
    """Return `out` if it has the suffix of this kind of document, else the kind's file name in `out` or `root`."""
    name = FILES[kind][1]
    if out is not None and out.suffix.lower() == Path(name).suffix:
        return out
    return (out or root) / name


def _section(section: Section, root: Path, folder: Path, number: int) -> Piece:
    all_columns = columns(section)
    outcome = [c for c in all_columns if c.group == "outcome" and not c.heading.startswith(("best", "last 10"))]
    cost = [all_columns[0], *(c for c in all_columns if c.group == "cost")]
    return {
        "title": section.title,
        "compared": scope_sentence(section),
        "findings": findings(section),
        "warnings": warnings(section),
        **{name: section_plot(name, section, folder / f"{name}-{number}.svg") for name in _PLOTS},
        "outcome": section_table(section, outcome, footnote(section)),
        "cost": section_table(section, cost, COST_NOTE),
        "failures": failure_rows(section),
        "commands": [
            {"arm": arm.label, "command": repeat_command(arm.runs[0].directory, root)}
            for arm in section.arms
            if arm.runs[0].directory
        ],
        "environments": environments(section),
    }
