"""Reading of runs for reports and comparisons, without PyTorch and without the run's configuration classes.

A run is read from its directory, or from the result file that `onebasin compare --results` writes for it.
"""

import json
import re
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onebasin.core.atomic_write import write_atomically

RESULT_NAME = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True)
class RunRecord:
    """The content of one run directory or result file.

    directory: None for a result file. config, summary, holdings: the content of `config.toml`, `summary.json` (empty
    while the run is not finished) and `holdings.json`. history: the lines of `history.jsonl`, one per round.
    """

    directory: Path | None
    label: str
    config: dict[str, Any]
    history: list[dict[str, Any]]
    summary: dict[str, Any]
    holdings: dict[str, Any]


def load_run(directory: Path) -> RunRecord:
    """Return the run in `directory`. Raises ValueError when there is none, or when a file is damaged."""
    try:
        config = tomllib.loads((directory / "config.toml").read_text(encoding="utf-8"))
        history = _complete_lines(directory / "history.jsonl")
        summary = _read_object(directory / "summary.json")
        holdings = _read_object(directory / "holdings.json")
    except (OSError, ValueError) as error:
        raise ValueError(f"{directory} is not a run directory: {error}") from None
    if not isinstance(config.get("method", {}), dict):
        raise ValueError(f"{directory} is not a run directory: config.toml has no table [method]")
    label = str(config.get("label", "")) or config.get("method", {}).get("name") or directory.name
    return RunRecord(directory, label, config, history, summary, holdings)


def load_result(path: Path) -> RunRecord:
    """Return the run in a result file. Raises ValueError when the file is damaged."""
    try:
        return RunRecord(directory=None, **json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a result file: {error}") from None


def write_result(record: RunRecord, folder: Path) -> None:
    """Write a finished run as a result file in `folder`, named after the hash of its configuration."""
    content = asdict(record)
    del content["directory"]
    write_atomically(folder / f"{record.summary['config_hash']}.json", json.dumps(content).encode())


def find_runs(root: Path) -> list[RunRecord]:
    """Return every run in `root` and below, sorted by label and seed. Raises ValueError when a file is damaged."""
    runs = [load_run(path.parent) for path in root.rglob("config.toml") if (path.parent / "history.jsonl").exists()]
    runs += [load_result(path) for path in root.rglob("*.json") if RESULT_NAME.fullmatch(path.name)]
    return sorted(runs, key=lambda run: (run.label, str(run.config.get("seed", 0)).zfill(20)))


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a JSON lines file; a run in progress may be writing the last one."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    if not all(isinstance(line, dict) for line in lines):
        raise ValueError(f"{path.name} has a line that is not an object")
    return lines


def _read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one when there is no such file."""
    content = json.loads(path.read_bytes()) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is not an object")
    return content
