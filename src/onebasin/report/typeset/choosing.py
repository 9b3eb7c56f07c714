"""Which runs a piece is made of, and the commands that make them again."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onebasin.report import units
from onebasin.report.aggregate import sections
from onebasin.report.arms import ReportError, Section, seed_of
from onebasin.report.typeset.pieces import Piece
from onebasin.report.typeset.plan import Choice

if TYPE_CHECKING:
    from onebasin.results.records import RunRecord


class Shelf:
    """A folder of result folders, each read once. ValueError when a file in one of them is damaged."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise ReportError(f"{root}: no such directory; expected one that holds folders of results")
        self.root = root
        self._read: dict[str, list[RunRecord]] = {}

    @cached_property
    def folders(self) -> list[str]:
        """The folders that hold runs."""
        return [path.name for path in sorted(self.root.iterdir()) if path.is_dir() and self.runs(path.name)]

    def runs(self, folder: str) -> list[RunRecord]:
        """All runs in a folder, none where there is no such folder."""
        from onebasin.results.records import find_runs

        if folder not in self._read:
            self._read[folder] = find_runs(self.root / folder) if (self.root / folder).is_dir() else []
        return self._read[folder]

    def choose(self, choice: Choice) -> list[RunRecord]:
        """The finished runs that a piece is made of, under the names that it gives them.

        A run that lies in two folders counts once, unless it has two names.
        """
        chosen: dict[tuple[str, Any], RunRecord] = {}
        for folder in choice.folders:
            for run in self._fitting(folder, choice):
                name = choice.names.get(f"{folder}/{run.label}", choice.names.get(run.label, run.label))
                if run.summary:
                    chosen.setdefault((name, run.summary.get("config_hash", id(run))), replace(run, label=name))
        return list(chosen.values())

    def _fitting(self, folder: str, choice: Choice) -> list[RunRecord]:
        return [run for run in self.runs(folder) if _has(run, choice.where) and _is_named(run, folder, choice)]

    def source(self, choice: Choice) -> Piece:
        """How many runs a piece is made of, and the commands that make them again."""
        found = {folder: self._fitting(folder, choice) for folder in choice.folders}
        runs = self.choose(choice)
        seeds = sorted({seed for run in runs if (seed := seed_of(run)) is not None})
        named = f"seed{'' if len(seeds) == 1 else 's'} {units.ranges_text(seeds)}" if seeds else "no seed"
        there = [folder for folder, each in found.items() if each]
        return {
            "runs": f"{units.plural(len(runs), 'run')}, {named}",
            "studies": [self.study(folder).as_posix() for folder in there],
            "commands": [self.command(folder) for folder in there],
        }

    def study(self, folder: str) -> Path:
        """The file of the study whose results a folder holds."""
        return self.root.parent / f"{folder}.toml"

    def command(self, folder: str) -> str:
        """The command that runs the study of a folder again."""
        return f"onebasin compare {self.study(folder).as_posix()} --results {(self.root / folder).as_posix()}"

    def studies(self) -> list[Piece]:
        """For every folder: its study's title, how many runs there are, from which commits, and the command."""
        return [self._study(folder) for folder in self.folders]

    def _study(self, folder: str) -> Piece:
        runs = self.runs(folder)
        study = self.study(folder)
        title = tomllib.loads(study.read_text(encoding="utf-8")).get("title", "") if study.exists() else ""
        commits = {str((run.summary.get("environment") or {}).get("commit", "")) for run in runs}
        return {
            "name": folder,
            "title": str(title),
            "runs": len(runs),
            "commits": sorted(commits - {""}),
            "seconds": units.seconds_text(sum(float(run.summary.get("seconds", 0)) for run in runs)),
            "command": self.command(folder),
        }


def one_section(runs: Sequence[RunRecord]) -> Section:
    """The only task of these runs; ReportError where they belong to several."""
    found = sections(runs)
    if len(found) > 1:
        raise ReportError(f"draws one task, and `where` lets through: {'; '.join(each.title for each in found)}")
    return found[0]


def setting(run: RunRecord, key: str) -> Any:
    """What stands at a dotted key of a run's configuration; None where nothing does."""
    value: Any = run.config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _has(run: RunRecord, where: Mapping[str, Any]) -> bool:
    return all(setting(run, key) in (wanted if isinstance(wanted, list) else [wanted]) for key, wanted in where.items())


def _is_named(run: RunRecord, folder: str, choice: Choice) -> bool:
    def among(patterns: Sequence[str]) -> bool:
        names = (run.label, f"{folder}/{run.label}")
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)

    return (not choice.only or among(choice.only)) and not among(choice.without)
