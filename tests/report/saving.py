"""Writing of synthetic runs as run directories and result files."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

import tomli_w

from onebasin.results.records import RunRecord


def save(runs: Sequence[RunRecord], root: Path) -> Path:
    """Write the runs as run directories in `root`."""
    for run in runs:
        directory = root / (re.sub(r"\W+", "-", run.label) + f"-{run.config['seed']}")
        directory.mkdir(parents=True)
        (directory / "config.toml").write_text(tomli_w.dumps(run.config), encoding="utf-8")
        lines = "".join(json.dumps(line) + "\n" for line in run.history)
        (directory / "history.jsonl").write_text(lines, encoding="utf-8")
        (directory / "holdings.json").write_text(json.dumps(run.holdings), encoding="utf-8")
        if run.summary:
            (directory / "summary.json").write_text(json.dumps(run.summary), encoding="utf-8")
    return root


def save_results(runs: Sequence[RunRecord], folder: Path) -> Path:
    """Write the runs as result files, as `onebasin compare --results` does."""
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs:
        content = {name: value for name, value in asdict(run).items() if name != "directory"}
        name = sha256(json.dumps([run.label, run.config]).encode()).hexdigest()[:16]
        if run.summary:
            content["summary"] = run.summary | {"config_hash": name}
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder
