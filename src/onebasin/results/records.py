"""Reading run directories: what the report and the comparison see of a run."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunRecord:
    """One run directory, read. `summary` is empty while the run is not finished."""

    directory: Path | None
    label: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    holdings: dict[str, Any]


def load_run(directory: Path) -> RunRecord:
    """Return the run in `directory`; `ValueError` when it holds none or a file is damaged."""
    try:
        config = tomllib.loads((directory / "config.toml").read_text(encoding="utf-8"))
        history = _complete_lines(directory / "history.jsonl")
        summary = _optional(directory / "summary.json")
        holdings = _optional(directory / "holdings.json")
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} is not a run directory: {error}") from None
    label = config.get("label") or config.get("method", {}).get("name") or directory.name
    return RunRecord(directory, label, config, history, summary, holdings)


def find_runs(root: Path) -> list[RunRecord]:
    """Return every run under `root` (itself included), by label and seed."""
    found = (path.parent for path in root.rglob("config.toml"))
    return sorted((load_run(directory) for directory in found), key=lambda run: (run.label, run.config.get("seed", 0)))


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines; a run that is still going may be in the middle of one."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def _optional(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return content
