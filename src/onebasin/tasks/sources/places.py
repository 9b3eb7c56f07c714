"""Where the files of a data set are looked for, in which order, and what is said when they are nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from onebasin.tasks.examples import DatasetNotFound


@dataclass(frozen=True)
class Places:
    """The user's data directory (None: not set) and the cache that downloads are kept in."""

    data_dir: Path | None
    cache_dir: Path

    @classmethod
    def of(cls, data_dir: Path | None, cache_dir: Path | None) -> Places:
        """Fill what is None from $ONEBASIN_DATA and $ONEBASIN_CACHE (else ~/.cache/onebasin)."""
        if data_dir is None and (named := os.environ.get("ONEBASIN_DATA")):
            data_dir = Path(named)
        if cache_dir is None:
            cache_dir = Path(os.environ.get("ONEBASIN_CACHE") or "~/.cache/onebasin")
        return cls(data_dir.expanduser() if data_dir else None, cache_dir.expanduser())

    def folders(self, *names: str) -> list[Path]:
        """Folders to look in, in order: ROOT/<name>, ROOT/<name>/raw, ROOT/, for the data directory, then the cache."""
        roots = [root for root in (self.data_dir, self.cache_dir) if root is not None]
        return [
            folder
            for root in roots
            for folder in (*(root / name / inner for name in names for inner in ("", "raw")), root)
        ]


@dataclass(frozen=True)
class Found:
    """The folder that holds a data set, and the path of each wanted file in it."""

    folder: Path
    paths: Mapping[str, Path]


@dataclass
class Search:
    """One look through the folders for all of the wanted files; remembers what each folder lacked.

    wanted: {file name: suffixes that a compressed or plain copy of it may have, the best first}.
    """

    dataset: str
    wanted: Mapping[str, Sequence[str]]
    folders: Sequence[Path]
    lacking: list[str] = field(default_factory=list)

    def run(self) -> Found | None:
        """The first folder that holds every wanted file, or None."""
        for folder in self.folders:
            paths = {name: path for name in self.wanted if (path := _first(folder, name, self.wanted[name]))}
            if len(paths) == len(self.wanted):
                return Found(folder, paths)
            missing = [name for name in self.wanted if name not in paths]
            self.lacking.append(f"{folder} ({_reason(folder, missing, len(self.wanted))})")
        return None

    def not_found(self, hub: str, remedy: str) -> DatasetNotFound:
        """The error to raise: files wanted, places looked, why the hub did not help, what to do."""
        files = ", ".join(name + "|".join(endings) for name, endings in self._spelled())
        looked = "".join(f"\n    {place}" for place in self.lacking)
        return DatasetNotFound(
            f"data set {self.dataset!r} was not found.\n"
            f"  wanted: {files}\n"
            f"  looked in:{looked}\n"
            f"    the Hugging Face hub: {hub}\n"
            f"  what to do: {remedy}"
        )

    def _spelled(self) -> Iterator[tuple[str, list[str]]]:
        for name, suffixes in self.wanted.items():
            yield name, [f"[{suffix}]" for suffix in suffixes if suffix]


def _first(folder: Path, name: str, suffixes: Iterable[str]) -> Path | None:
    return next((path for suffix in suffixes if (path := folder / (name + suffix)).is_file()), None)


def _reason(folder: Path, missing: Sequence[str], wanted: int) -> str:
    if not folder.is_dir():
        return "no such directory"
    return "none of them" if len(missing) == wanted else f"lacks {', '.join(missing)}"


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


def locate(search: Search, fetch: Callable[[], str], remedy: str) -> tuple[Found, str | None]:
    """The wanted files from a folder; else `fetch` puts them into the last folder and returns the repository's name.

    Returns what was found and, where it was fetched, the repository. Raises DatasetNotFound if `fetch` raises it.
    """
    if found := search.run():
        return found, None
    try:
        repository = fetch()
    except DatasetNotFound as failure:
        raise search.not_found(str(failure), remedy) from failure
    found = Search(search.dataset, search.wanted, search.folders).run()
    if found is None:
        raise search.not_found(f"{repository} was read but did not give the wanted files", remedy)
    return found, repository
