"""From typst sources and data to PDF or HTML, with the fonts that packages bring and no others."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from onebasin.core.atomic_write import write_whole
from onebasin.report.arms import ReportError

_LAYOUT = Path(__file__).with_name("layout")
STUDY = _LAYOUT / "study"

Kind = Literal["pdf", "slides", "html"]
FILES: dict[Kind, tuple[str, str]] = {
    "pdf": ("report.typ", "report.pdf"),
    "slides": ("slides.typ", "slides.pdf"),
    "html": ("report.typ", "report.html"),
}


def has_typst() -> bool:
    """Whether the package that sets PDFs is installed."""
    return find_spec("typst") is not None


def furnish(folder: Path, data: Mapping[str, Any]) -> None:
    """Put the layout that every document imports (`onebasin.typ`), and its data, into `folder`."""
    shutil.copy(_LAYOUT / "onebasin.typ", folder)
    shutil.copytree(_LAYOUT / "onebasin", folder / "onebasin")
    (folder / "data.json").write_text(json.dumps(data, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def set_document(folder: Path, kind: Kind, target: Path) -> Path:
    """Compile the source of `kind` in `folder` to `target`; equal sources and data give equal files.

    ReportError when typst is not installed, or does not accept the source; the message names file and line.
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
        # The warnings are that HTML export is young and leaves out what a page has no use for.
        made, _ = compiler.compile_with_warnings(
            format="html" if kind == "html" else "pdf",
            sys_inputs={"target": kind},
            timestamp=0,
            pdf_tags=False,  # they double a long file; what reads pages aloud is better served by the HTML
        )
    except typst.TypstError as error:
        said = re.sub(rf"\S*{re.escape(folder.name)}/", "", error.diagnostic or error.message)
        raise ReportError(f"{source.name}: {said}") from None
    assert isinstance(made, bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, made)
    return target
