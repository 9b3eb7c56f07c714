"""Compilation of typst sources and JSON data to PDF or HTML, with the fonts that typst brings and no system fonts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from onebasin.core.atomic_write import write_atomically
from onebasin.report.arms import ReportError

_LAYOUT = Path(__file__).with_name("layout")
STANDARD_TEXT = _LAYOUT / "study"
"""The typst sources of the standard report and slides."""

Kind = Literal["pdf", "slides", "html"]
FILES: dict[Kind, tuple[str, str]] = {  # (source, output)
    "pdf": ("report.typ", "report.pdf"),
    "slides": ("slides.typ", "slides.pdf"),
    "html": ("report.typ", "report.html"),
}


def has_typst() -> bool:
    """Return whether the Python package typst is installed."""
    return find_spec("typst") is not None


def write_layout(folder: Path, data: Mapping[str, Any]) -> None:
    """Write the layout that every document imports (`onebasin.typ`), and the document's data, into `folder`."""
    shutil.copy(_LAYOUT / "onebasin.typ", folder)
    shutil.copytree(_LAYOUT / "onebasin", folder / "onebasin")
    (folder / "data.json").write_text(json.dumps(data, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def compile_document(folder: Path, kind: Kind, target: Path) -> Path:
    """Compile the source of `kind` in `folder` to the file `target`, and return `target`.

    Equal sources and data give equal files.
    Raises ReportError when typst is not installed, when there is no source of this kind, or when the source has an
    error; the message then names the file and the line.
    """
    try:
        import typst
    except ImportError:
        raise ReportError(
            "PDFs are set by the package typst, which is missing: pip install 'onebasin[report]'"
        ) from None
    source = folder / FILES[kind][0]
    if not source.exists():
        raise ReportError(f"{source.name}: there is no such source beside results.toml")
    compiler = typst.Compiler(source, root=folder, ignore_system_fonts=True)
    try:
        # The warnings only tell that HTML export is experimental and ignores page layout.
        output, _ = compiler.compile_with_warnings(
            format="html" if kind == "html" else "pdf",
            sys_inputs={"target": kind},
            timestamp=0,
            pdf_tags=False,  # tags double the size of a long file, and the HTML page is better for screen readers
        )
    except typst.TypstError as error:
        message = re.sub(rf"\S*{re.escape(folder.name)}/", "", error.diagnostic or error.message)
        raise ReportError(f"{source.name}: {message}") from None
    assert isinstance(output, bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, output)
    return target
