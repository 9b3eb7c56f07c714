"""Find the files of a data set in the data directory, in the cache or on the hub; report what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from onebasin.learning.data.examples import DatasetNotFound


@dataclass(frozen=True)
class DataFolders:
    """The folders that are searched for data files.

    data_dir: the user's data directory; None if not set.
    cache_dir: the cache, where downloads are stored.
    """

    data_dir: Path | None
    cache_dir: Path

    @classmethod
    def from_environment(cls, data_dir: Path | None, cache_dir: Path | None) -> DataFolders:
        """Replace None by $ONEBASIN_DATA, and by $ONEBASIN_CACHE or else ~/.cache/onebasin."""
        data = data_dir or os.environ.get("ONEBASIN_DATA")
        cache = cache_dir or os.environ.get("ONEBASIN_CACHE") or "~/.cache/onebasin"
        return cls(Path(data).expanduser() if data else None, Path(cache).expanduser())

    def candidates(self, *names: str) -> list[Path]:
        """List ROOT/<name> for each name, then ROOT itself; first in the data directory, then in the cache.

        Subfolders that do not exist are left out; the roots are always listed.
        """
        roots = [root for root in (self.data_dir, self.cache_dir) if root is not None]
        return [
            folder
            for root in roots
            for folder in (*(root / name for name in names), root)
            if folder == root or folder.is_dir()
        ]


@dataclass(frozen=True)
class FileSet:
    """Files that belong together in one folder.

    files: the file names, without suffix.
    suffixes: accepted endings such as ".gz", in order of preference; "" is no suffix.
    """

    files: tuple[str, ...]
    suffixes: tuple[str, ...] = ("",)

    def find(self, folder: Path) -> Mapping[str, Path]:
        """Map each file that exists in the folder to its path."""
        candidates = {file: [folder / (file + suffix) for suffix in self.suffixes] for file in self.files}
        existing = {file: [path for path in paths if path.is_file()] for file, paths in candidates.items()}
        return {file: paths[0] for file, paths in existing.items() if paths}

    def __str__(self) -> str:
        endings = "|".join(end for end in self.suffixes if end)
        optional = f"[{endings}]" if endings and "" in self.suffixes else endings
        return _join_names([file + optional for file in self.files])


@dataclass(frozen=True)
class LocatedFiles:
    """The result of a search.

    paths: the path of each file of the set.
    source: the folder, or "hub:<repository>" if the files were downloaded by this search.
    """

    paths: Mapping[str, Path]
    source: str


def locate(
    dataset: str,
    file_sets: Sequence[FileSet],
    folders: DataFolders,
    names: Sequence[str],
    download: Callable[[], str],
    remedy: str,
) -> LocatedFiles:
    """Find the first folder of `folders.candidates(*names)` that has all files of one of the sets.

    download: called if no folder has them; writes the files into the cache and returns the repository's name.
    remedy: advice for the user, shown if the files are not found.
    Raises DatasetNotFound, with the files that each folder lacks.
    """
    searched = folders.candidates(*names)
    if found := _find_first(file_sets, searched, None):
        return found
    missing = "".join(f"\n    {folder}: {_describe_missing(file_sets, folder)}" for folder in searched)
    wanted = "\n       or ".join(str(file_set) for file_set in file_sets)
    try:
        repository = download()
    except DatasetNotFound as failure:
        raise DatasetNotFound(
            f"data set {dataset!r} was not found.\n"
            f"  wanted: {wanted}\n"
            f"  looked in:{missing}\n"
            f"    the Hugging Face hub: {failure}\n"
            f"  what to do: {remedy}"
        ) from failure
    downloaded = _find_first(file_sets, folders.candidates(*names), repository)
    assert downloaded is not None, f"fetching {dataset} wrote none of {wanted}"
    return downloaded


def _find_first(file_sets: Sequence[FileSet], folders: Sequence[Path], repository: str | None) -> LocatedFiles | None:
    for folder in folders:
        for file_set in file_sets:
            paths = file_set.find(folder)
            if len(paths) == len(file_set.files):
                return LocatedFiles(paths, f"hub:{repository}" if repository else str(folder))
    return None


def _describe_missing(file_sets: Sequence[FileSet], folder: Path) -> str:
    if not folder.is_dir():
        return "no such directory"
    for file_set in file_sets:
        existing = file_set.find(folder)
        if existing:
            return f"lacks {_join_names([file for file in file_set.files if file not in existing])}"
    return "none of them"


def _join_names(names: Sequence[str], limit: int = 7) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


@contextmanager
def atomic_replacement(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` atomically on success, and is deleted on an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
