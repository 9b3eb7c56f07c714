"""What `onebasin report` writes: the HTML page, PDFs where the package that sets them is installed, or a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onebasin.report.aggregate import runs_in, sections
from onebasin.report.arms import ReportError
from onebasin.report.curves import frontier_figure
from onebasin.report.figures import save_png
from onebasin.report.page import write_report
from onebasin.report.typeset import Kind, has_typst, kinds_of, write_documents, write_text

_KINDS: dict[str, Kind] = {"html": "html", "pdf": "pdf", "slides": "slides"}


def report(root: Path, kind: str | None = None, text: Path | None = None, out: Path | None = None) -> Iterator[str]:
    """Write what is asked for about the runs under `root`, and say what was written.

    kind: html, pdf or slides; left out, what the name of `out` says, else all three. text: a folder with a text of
    one's own, in place of the standard one. out: a folder, or a file where one kind is asked for; a .png is accuracy
    against bytes, of one task. ReportError when `kind` is none of these, a picture is asked for of several tasks, or
    with a kind or a text, or PDFs are asked for and typst is missing.
    """
    if out is not None and out.suffix.lower() == ".png":
        if kind or text:
            raise ReportError(f"--out {out}: is a picture of accuracy against bytes; leave out --as and --text")
        yield str(_draw(root, out))
        return
    kinds = _kinds(kind, out)
    if text is not None:
        there = kinds_of(text)
        paths, left_out = write_text(root, text, kinds if kind else [each for each in kinds if each in there], out)
        yield from map(str, paths)
        yield from (f"left out: {each}" for each in left_out)
        return
    if "html" in kinds:
        yield str(write_report(root, out))
    documents = [each for each in kinds if each != "html"]
    if documents and kind is None and not has_typst():
        yield "no PDFs: the package that sets them is missing (pip install 'onebasin[report]')"
    elif documents:
        yield from map(str, write_documents(root, documents, out))


def _kinds(kind: str | None, out: Path | None) -> list[Kind]:
    suffix = out.suffix.lower() if out else ""
    if kind is None:
        return ["html"] if suffix in (".html", ".htm") else ["pdf"] if suffix == ".pdf" else list(_KINDS.values())
    if kind not in _KINDS:
        raise ReportError(f"--as {kind}: expected {', '.join(_KINDS)}")
    if suffix in (".html", ".htm", ".pdf") and (suffix == ".pdf") == (kind == "html"):
        raise ReportError(f"--out {out}: --as {kind} writes another kind of file")
    return [_KINDS[kind]]


def _draw(root: Path, out: Path) -> Path:
    found = sections(runs_in(root))
    if len(found) > 1:
        titles = "; ".join(section.title for section in found)
        raise ReportError(f"--out {out}: a picture is of one task, and {root} has {len(found)}: {titles}; use a folder")
    return save_png(frontier_figure(found[0]), out)
