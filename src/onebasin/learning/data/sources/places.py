"""Where the files of a data set are looked for, in which order, and what is said when they are nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onebasin.learning.data.examples import DatasetNotFound


@dataclass(frozen=True)
class Places:
    """The user's data directory (None: not set) and the cache that downloads are kept in."""

    data_dir: Path | None
    cache_dir: Path

    @classmethod
    def of(cls, data_dir: Path | None, cache_dir: Path | None) -> Places:
        """Fill what is None from $ONEBASIN_DATA and $ONEBASIN_CACHE (else ~/.cache/onebasin)."""
        data = data_dir or os.environ.get("ONEBASIN_DATA")
        cache = cache_dir or os.environ.get("ONEBASIN_CACHE") or "~/.cache/onebasin"
        return cls(Path(data).expanduser() if data else None, Path(cache).expanduser())

    def folders(self, *names: str) -> list[Path]:
        """ROOT/<name> for each name, and ROOT itself, first for the data directory, then for the cache.

        Only those that exist, but the roots always.
        """
        roots = [root for root in (self.data_dir, self.cache_dir) if root is not None]
        return [
            folder
            for root in roots
            for folder in (*(root / name for name in names), root)
            if folder == root or folder.is_dir()
        ]


@dataclass(frozen=True)
class Layout:
    """Files that lie in one folder, each under its name with one of the suffixes, the first that is there."""

    files: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)

    def find(self, folder: Path) -> Mapping[str, Path]:
        """{file: its path} for those of the files that the folder holds."""
        candidates = {file: [folder / (file + suffix) for suffix in self.suffixes] for file in self.files}
        held = {file: [path for path in paths if path.is_file()] for file, paths in candidates.items()}
        return {file: paths[0] for file, paths in held.items() if paths}

    def __str__(self) -> str:
        endings = "|".join(end for end in self.suffixes if end)
        optional = f"[{endings}]" if endings and "" in self.suffixes else endings
        return _listed([file + optional for file in self.files])


@dataclass(frozen=True)
class Found:
    """{file: its path}; and the folder, or "hub:<repository>" if the files were fetched just now."""

    paths: Mapping[str, Path]
    source: str


def locate(
    dataset: str, layouts: Sequence[Layout], places: Places, names: Sequence[str], fetch: Callable[[], str], remedy: str
) -> Found:
    """The first of `places.folders(*names)` that holds all files of one of the layouts.

    Where there is none, `fetch` writes them into the cache and returns the repository they came from.
    remedy: what a user can do about missing files. Raises DatasetNotFound, with what each folder lacked.
    """
    folders = places.folders(*names)
    if found := _first(layouts, folders, None):
        return found
    looked = "".join(f"\n    {folder}: {_lack(layouts, folder)}" for folder in folders)
    wanted = "\n       or ".join(str(layout) for layout in layouts)
    try:
        repository = fetch()
    except DatasetNotFound as failure:
        raise DatasetNotFound(
            f"data set {dataset!r} was not found.\n"
            f"  wanted: {wanted}\n"
            f"  looked in:{looked}\n"
            f"    the Hugging Face hub: {failure}\n"
            f"  what to do: {remedy}"
        ) from failure
    fetched = _first(layouts, places.folders(*names), repository)
    assert fetched is not None, f"fetching {dataset} wrote none of {wanted}"
    return fetched


def _first(layouts: Sequence[Layout], folders: Sequence[Path], repository: str | None) -> Found | None:
    for folder in folders:
        for layout in layouts:
            paths = layout.find(folder)
            if len(paths) == len(layout.files):
                return Found(paths, f"hub:{repository}" if repository else str(folder))
    return None


def _lack(layouts: Sequence[Layout], folder: Path) -> str:
    if not folder.is_dir():
        return "no such directory"
    for layout in layouts:
        held = layout.find(folder)
        if held:
            return f"lacks {_listed([file for file in layout.files if file not in held])}"
    return "none of them"


def _listed(names: Sequence[str], most: int = 7) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that is yielded; it takes the place of `path` in one step, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
