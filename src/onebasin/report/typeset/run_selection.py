"""Selection of the runs that a piece of a document uses, and the commands that repeat these runs."""

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
from onebasin.report.typeset.plan import RunChoice

if TYPE_CHECKING:
    from onebasin.results.records import RunRecord


class ResultFolders:
    """A folder that contains result folders, one for each study; each is read at most once.

    Its methods raise ValueError when a file in a result folder is damaged.
    """

    def __init__(self, root: Path) -> None:
        """Open the folder `root`. Raises ReportError when it does not exist."""
        if not root.is_dir():
            raise ReportError(f"{root}: no such directory; expected one that holds folders of results")
        self.root = root
        self._read: dict[str, list[RunRecord]] = {}

    @cached_property
    def folders(self) -> list[str]:
        """The names of the folders that contain runs."""
        return [path.name for path in sorted(self.root.iterdir()) if path.is_dir() and self.runs(path.name)]

    def runs(self, folder: str) -> list[RunRecord]:
        """Return all runs in a folder; none when the folder does not exist."""
        from onebasin.results.records import find_runs

        if folder not in self._read:
            self._read[folder] = find_runs(self.root / folder) if (self.root / folder).is_dir() else []
        return self._read[folder]

    def select(self, choice: RunChoice) -> list[RunRecord]:
        """Return the finished runs that a piece uses, with the labels that the piece gives them.

        A run that is in two folders counts once, unless the piece gives it two labels.
        """
        selected: dict[tuple[str, Any], RunRecord] = {}
        for folder in choice.folders:
            for run in self._matching(folder, choice):
                name = choice.names.get(f"{folder}/{run.label}", choice.names.get(run.label, run.label))
                if run.summary:
                    selected.setdefault((name, run.summary.get("config_hash", id(run))), replace(run, label=name))
        return list(selected.values())

    def _matching(self, folder: str, choice: RunChoice) -> list[RunRecord]:
        runs = self.runs(folder)
        return [run for run in runs if _has_settings(run, choice.where) and _label_matches(run, folder, choice)]

    def source(self, choice: RunChoice) -> Piece:
        """Return where a piece comes from: its number of runs, their studies, and the commands that repeat them."""
        runs = self.select(choice)
        seeds = sorted({seed for run in runs if (seed := seed_of(run)) is not None})
        seed_text = f"seed{'' if len(seeds) == 1 else 's'} {units.ranges_text(seeds)}" if seeds else "no seed"
        folders = [folder for folder in dict.fromkeys(choice.folders) if self._matching(folder, choice)]
        return {
            "runs": f"{units.plural(len(runs), 'run')}, {seed_text}",
            "studies": [self.study_file(folder).as_posix() for folder in folders],
            "commands": [self.command(folder) for folder in folders],
        }

    def study_file(self, folder: str) -> Path:
        """Return the file of the study whose results are in a folder."""
        return self.root.parent / f"{folder}.toml"

    def command(self, folder: str) -> str:
        """Return the command that repeats the study of a folder."""
        return f"onebasin compare {self.study_file(folder).as_posix()} --results {(self.root / folder).as_posix()}"

    def studies(self) -> list[Piece]:
        """Return for each folder its study's title, the number, commits and duration of its runs, and the command."""
        return [self._study_facts(folder) for folder in self.folders]

    def _study_facts(self, folder: str) -> Piece:
        runs = self.runs(folder)
        file = self.study_file(folder)
        title = tomllib.loads(file.read_text(encoding="utf-8")).get("title", "") if file.exists() else ""
        commits = {str((run.summary.get("environment") or {}).get("commit", "")) for run in runs}
        return {
            "name": folder,
            "title": str(title),
            "runs": len(runs),
            "commits": sorted(commits - {""}),
            "seconds": units.seconds_text(sum(float(run.summary.get("seconds", 0)) for run in runs)),
            "command": self.command(folder),
        }


def single_section(runs: Sequence[RunRecord]) -> Section:
    """Return the section of runs that belong to one task. Raises ReportError when they belong to several."""
    all_sections = sections(runs)
    if len(all_sections) > 1:
        titles = "; ".join(section.title for section in all_sections)
        raise ReportError(f"draws one task, and `where` lets through: {titles}")
    return all_sections[0]


def setting(run: RunRecord, key: str) -> Any:
    """Return the value of a dotted key in a run's configuration; None when the key is missing."""
    value: Any = run.config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _has_settings(run: RunRecord, where: Mapping[str, Any]) -> bool:
    allowed = {key: value if isinstance(value, list) else [value] for key, value in where.items()}
    return all(setting(run, key) in values for key, values in allowed.items())


def _label_matches(run: RunRecord, folder: str, choice: RunChoice) -> bool:
    def matches_any(patterns: Sequence[str]) -> bool:
        names = (run.label, f"{folder}/{run.label}")
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)

    return (not choice.only or matches_any(choice.only)) and not matches_any(choice.without)
