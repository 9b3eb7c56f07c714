"""The `onebasin report` command: it writes the HTML page, PDF documents, or a single picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onebasin.report.aggregate import read_runs, sections
from onebasin.report.arms import ReportError
from onebasin.report.curves import frontier_figure
from onebasin.report.figures import save_png
from onebasin.report.page import write_report
from onebasin.report.typeset import Kind, available_kinds, has_typst, write_documents, write_text

_KINDS: dict[str, Kind] = {"html": "html", "pdf": "pdf", "slides": "slides"}


def report(root: Path, kind: str | None = None, text: Path | None = None, out: Path | None = None) -> Iterator[str]:
    """Write a report on the runs under `root`, and yield a line for each file written or left out.

    kind: "html", "pdf" or "slides" (default: the kind that the suffix of `out` implies, or else all three).
    text: a folder with the user's own typst sources, in place of the standard report.
    out: a folder, or a file if only one kind is written. A .png file gets the figure of accuracy against bytes.
    Raises ReportError for an unknown `kind`, for a suffix of `out` that contradicts `kind`, for a picture combined
    with `kind` or `text` or of runs of several tasks, and for PDFs of a given `kind` when typst is not installed.
    """
    if out is not None and out.suffix.lower() == ".png":
        if kind or text:
            raise ReportError(f"--out {out}: is a picture of accuracy against bytes; leave out --as and --text")
        yield str(_write_picture(root, out))
        return
    kinds = _kinds_to_write(kind, out)
    if text is not None:
        available = available_kinds(text)
        paths, left_out = write_text(root, text, kinds if kind else [k for k in kinds if k in available], out)
        yield from map(str, paths)
        yield from (f"left out: {line}" for line in left_out)
        return
    if "html" in kinds:
        yield str(write_report(root, out))
    documents = [k for k in kinds if k != "html"]
    if documents and kind is None and not has_typst():
        yield "no PDFs: the package that sets them is missing (pip install 'onebasin[report]')"
    elif documents:
        yield from map(str, write_documents(root, documents, out))


def _kinds_to_write(kind: str | None, out: Path | None) -> list[Kind]:
    suffix = out.suffix.lower() if out else ""
    if kind is None:
        return ["html"] if suffix in (".html", ".htm") else ["pdf"] if suffix == ".pdf" else list(_KINDS.values())
    if kind not in _KINDS:
        raise ReportError(f"--as {kind}: expected {', '.join(_KINDS)}")
    if suffix in (".html", ".htm", ".pdf") and (suffix == ".pdf") == (kind == "html"):
        raise ReportError(f"--out {out}: --as {kind} writes another kind of file")
    return [_KINDS[kind]]


def _write_picture(root: Path, out: Path) -> Path:
    tasks = sections(read_runs(root))
    if len(tasks) > 1:
        titles = "; ".join(section.title for section in tasks)
        raise ReportError(f"--out {out}: a picture is of one task, and {root} has {len(tasks)}: {titles}; use a folder")
    return save_png(frontier_figure(tasks[0]), out)
