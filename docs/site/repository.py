"""MkDocs hook: the pages of the repository's root in the site, and links between the site and the repository.

Pages link to one another as files of the repository, so that they can be read there too. The site has the pages of
`docs/` and those in `ROOT_PAGES`. A link to any other file of the repository leads to a copy of that file in the site,
a link to a folder of the package to the API page of its room; a link to any other folder becomes plain text. A link to
nothing is left as it is, and `mkdocs build --strict` reports it.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
PACKAGE = "src/onebasin/"

_CODE = re.compile(r"^ {0,3}(?P<fence>```|~~~).*?^ {0,3}(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>[^\[\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave those `extra.optional_pages` out of the navigation that do not exist."""
    missing = {page for page in config.extra["optional_pages"] if not _source(page).is_file()}
    config.nav = _without(config.nav, missing)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root, and the files outside `docs/` that pages link to."""
    for source, page in ROOT_PAGES.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for page in list(files.documentation_pages()):
        for path in _linked_files(page):
            if files.get_file_from_path(path) is None:
                files.append(File(path, str(ROOT), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace links between files of the repository by links between pages of the site."""

    def replaced(match: re.Match[str]) -> str:
        path = _in_repository(page.file, match["target"])
        target = _in_site(path)
        if target is not None:
            relative = posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")
            return f"[{match['text']}]({relative}{match['anchor'] or ''})"
        return match["text"] if path is not None and (ROOT / path).is_dir() else match[0]

    return _outside_code(markdown, lambda text: _LINK.sub(replaced, text))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Apply a function to a page without its fenced code."""
    result, end = [], 0
    for code in _CODE.finditer(markdown):
        result += [change(markdown[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*result, change(markdown[end:])])


def _source(page: str) -> Path:
    """Return the file of the repository that has the text of a page of the site."""
    names = [source for source, name in ROOT_PAGES.items() if name == page]
    return ROOT / names[0] if names else ROOT / "docs" / page


def _in_repository(file: File, target: str) -> str | None:
    """Return the path in the repository that a link on a page leads to; None if it leads elsewhere."""
    if ":" in target or target.startswith("/"):
        return None
    folder = os.path.relpath(os.path.dirname(file.abs_src_path or ""), ROOT)
    path = posixpath.normpath(posixpath.join(folder, target))
    return None if path.startswith("..") else path


def _in_site(path: str | None) -> str | None:
    """Return the path in the site of a path in the repository; None if the site has nothing for it."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    if path is None:
        return None
    if (ROOT / path).is_file():
        return path.removeprefix("docs/")
    page = f"api/{path.removeprefix(PACKAGE).split('/')[0]}.md"
    return page if path.startswith(PACKAGE) and (ROOT / "docs" / page).is_file() else None


def _linked_files(page: File) -> list[str]:
    """Return the files outside `docs/` that a page links to and that are no pages of the site."""
    paths: list[str] = []

    def collect(text: str) -> str:
        paths.extend(path for match in _LINK.finditer(text) if (path := _in_repository(page, match["target"])))
        return text

    _outside_code(Path(page.abs_src_path or "").read_text(encoding="utf-8"), collect)
    return [path for path in paths if _in_site(path) == path and not path.startswith("docs/")]


def _without(entry: Any, dropped: set[str]) -> Any:
    """Return a navigation entry without some pages; None if nothing of it is left."""
    if isinstance(entry, str):
        return None if entry in dropped else entry
    if isinstance(entry, list):
        return [rest for each in entry if (rest := _without(each, dropped))]
    return {title: rest for title, each in entry.items() if (rest := _without(each, dropped))}
