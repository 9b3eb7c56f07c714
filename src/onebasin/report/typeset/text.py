"""Compilation of a user's own typst sources, with the pieces that their `results.toml` takes from results."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onebasin.report.against import against_figure, against_styles
from onebasin.report.arms import ReportError
from onebasin.report.columns import ARM, columns
from onebasin.report.table import footnote
from onebasin.report.typeset import plan
from onebasin.report.typeset.compiling import FILES, Kind, compile_document, write_layout
from onebasin.report.typeset.documents import output_path
from onebasin.report.typeset.grid import grid_piece
from onebasin.report.typeset.markdown import markdown_piece
from onebasin.report.typeset.numbers import numbers_piece
from onebasin.report.typeset.pieces import Piece, legend_entry, plot_piece, section_plot, section_table
from onebasin.report.typeset.run_selection import ResultFolders, single_section

PLAN = "results.toml"


def available_kinds(text: Path) -> list[Kind]:
    """Return the kinds of document for which the folder `text` has a source."""
    return [kind for kind, (source, _) in FILES.items() if (text / source).exists()]


def write_text(root: Path, text: Path, kinds: Sequence[Kind], out: Path | None = None) -> tuple[list[Path], list[str]]:
    """Compile the sources in the folder `text` with the results in the folders under `root`.

    Return the paths of the documents, and a line for each piece that was left out because it has no results; a missing
    study is not an error.
    out: a folder, or a file if there is only one kind (default: `text`).
    Raises ReportError or ConfigError when `results.toml` or a source is wrong, ValueError when a result is damaged.
    """
    entries = plan.read_plan(text / PLAN)
    results = ResultFolders(root)
    if not kinds:
        raise ReportError(f"{text}: holds neither report.typ nor slides.typ")
    with TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(text, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pdf", "*.html"))
        pieces = {name: _piece(name, entry, results, text, folder) for name, entry in entries.items()}
        write_layout(folder, {"pieces": pieces, "studies": results.studies()})
        paths = [compile_document(folder, kind, output_path(kind, text, out)) for kind in kinds]
    return paths, [f"{name}: {piece['why']}" for name, piece in pieces.items() if piece["kind"] == "missing"]


def _piece(name: str, entry: plan.Entry, results: ResultFolders, text: Path, folder: Path) -> Piece:
    try:
        match entry:
            case plan.Markdown():
                return markdown_piece((text / entry.file).read_text(encoding="utf-8"), entry.sections, entry.without)
            case plan.Picture():
                copy = folder / f"{name}{Path(entry.file).suffix}"
                shutil.copy(text / entry.file, copy)
                return {"kind": "picture", "file": copy.name, "caption": name}
            case _:
                piece = _result_piece(entry, results, folder / f"{name}.svg")
        return piece or {"kind": "missing", "why": f"no results in {_folders_text(entry, results)}"}
    except (ReportError, OSError) as error:
        raise ReportError(f"{PLAN}: {name}: {error}") from None


def _result_piece(
    entry: plan.Plot | plan.Against | plan.Comparison | plan.Grid | plan.Numbers, results: ResultFolders, file: Path
) -> Piece | None:
    """Return a piece that is made from runs; None when there are no such runs, or nothing to draw."""
    runs = results.select(entry)
    if not runs:
        return None
    piece: Piece | None
    match entry:
        case plan.Plot():
            piece = section_plot(entry.draw, single_section(runs), file)
        case plan.Against():
            legend = [legend_entry(label, style) for label, style in against_styles(runs, entry.key).items()]
            piece = plot_piece(against_figure(runs, entry.key, legend=False), file, "", legend)
        case plan.Comparison():
            section = single_section(runs)
            shown = columns(section, entry.baseline)
            if entry.columns:
                shown = [column for column in shown if column.heading in (ARM, *entry.columns)]
            piece = section_table(section, shown, footnote(section))
        case plan.Grid():
            piece = grid_piece(runs, entry)
        case plan.Numbers():
            piece = numbers_piece(single_section(runs), entry.arm)
    return piece and piece | {"source": results.source(entry)}


def _folders_text(entry: plan.RunChoice, results: ResultFolders) -> str:
    return " or ".join((results.root / folder).as_posix() for folder in entry.folders)
