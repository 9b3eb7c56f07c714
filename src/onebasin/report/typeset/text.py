"""A text of one's own about results: typst sources, and `results.toml`, which says what they take from the results."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from onebasin.report.against import against_figure, against_looks
from onebasin.report.arms import ReportError
from onebasin.report.columns import columns
from onebasin.report.table import footnote
from onebasin.report.typeset import plan
from onebasin.report.typeset.choosing import Shelf, one_section
from onebasin.report.typeset.compiling import FILES, Kind, furnish, set_document
from onebasin.report.typeset.documents import target_of
from onebasin.report.typeset.grid import grid_piece
from onebasin.report.typeset.markdown import markdown_piece
from onebasin.report.typeset.numbers import numbers_piece
from onebasin.report.typeset.pieces import Piece, key_entry, plot, section_plot, section_table

PLAN = "results.toml"


def kinds_of(text: Path) -> list[Kind]:
    """The kinds of document that a text has sources for."""
    return [kind for kind, (source, _) in FILES.items() if (text / source).exists()]


def write_text(root: Path, text: Path, kinds: Sequence[Kind], out: Path | None = None) -> tuple[list[Path], list[str]]:
    """Compile the text in `text` with what it takes from the folders of results under `root`.

    Return the files, and what was left out because there is no result for it: a study that is missing stops nothing.
    out: a folder, or a file where one kind is asked for; left out, `text`.
    ReportError or ConfigError when `results.toml` or a source is wrong, ValueError when a result is damaged.
    """
    wanted = plan.read_plan(text / PLAN)
    shelf = Shelf(root)
    if not kinds:
        raise ReportError(f"{text}: holds neither report.typ nor slides.typ")
    with TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(text, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pdf", "*.html"))
        pieces = {name: _piece(name, entry, shelf, text, folder) for name, entry in wanted.items()}
        furnish(folder, {"pieces": pieces, "studies": shelf.studies()})
        made = [set_document(folder, kind, target_of(kind, text, out)) for kind in kinds]
    return made, [f"{name}: {piece['why']}" for name, piece in pieces.items() if piece["kind"] == "missing"]


def _piece(name: str, entry: plan.Entry, shelf: Shelf, text: Path, folder: Path) -> Piece:
    try:
        match entry:
            case plan.Markdown():
                return markdown_piece((text / entry.file).read_text(encoding="utf-8"), entry.sections, entry.without)
            case plan.Picture():
                copy = folder / f"{name}{Path(entry.file).suffix}"
                shutil.copy(text / entry.file, copy)
                return {"kind": "picture", "file": copy.name, "caption": name}
            case _:
                drawn = _drawn(entry, shelf, folder / f"{name}.svg")
        return drawn or {"kind": "missing", "why": f"no results in {_places(entry, shelf)}"}
    except (ReportError, OSError) as error:
        raise ReportError(f"{PLAN}: {name}: {error}") from None


def _drawn(
    entry: plan.Plot | plan.Against | plan.Comparison | plan.Grid | plan.Numbers, shelf: Shelf, file: Path
) -> Piece | None:
    runs = shelf.choose(entry)
    if not runs:
        return None
    piece: Piece | None
    match entry:
        case plan.Plot():
            piece = section_plot(entry.draw, one_section(runs), file)
        case plan.Against():
            key = [key_entry(label, look) for label, look in against_looks(runs, entry.key).items()]
            piece = plot(against_figure(runs, entry.key, names=False), file, "", key)
        case plan.Comparison():
            section = one_section(runs)
            offered = columns(section, entry.baseline)
            shown = (
                [c for c in offered if c.heading == "arm" or c.heading in entry.columns] if entry.columns else offered
            )
            piece = section_table(section, shown, footnote(section))
        case plan.Grid():
            piece = grid_piece(runs, entry)
        case plan.Numbers():
            piece = numbers_piece(one_section(runs), entry.arm)
    return piece and piece | {"source": shelf.source(entry)}


def _places(entry: plan.Choice, shelf: Shelf) -> str:
    return " or ".join((shelf.root / folder).as_posix() for folder in entry.folders)
