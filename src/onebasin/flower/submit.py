"""Handing a run to a SuperLink, with Flower's own command, and following it to its end."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w

from onebasin.config import RunConfig
from onebasin.engines.engine import EngineError
from onebasin.flower.settings import Settings

APP = Path(__file__).parent / "app"


def submit(config: RunConfig, directory: Path) -> None:
    """Have the SuperLink play the run in `directory` (on its machine), and show its log until it ends.

    `EngineError` when Flower is not installed, cannot be reached, or the run does not end well.
    """
    superlink = [config.engine.superlink] if config.engine.superlink else []
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "run.toml"
        values.write_text(tomli_w.dumps(Settings(config, directory.absolute()).write()), encoding="utf-8")
        started = _flwr("run", str(APP), *superlink, "--run-config", str(values), "--format", "json")
    run = str(started.get("run-id") or "")
    if not run:
        raise EngineError(f"the SuperLink did not take the run: {started.get('error-message', started)}")
    subprocess.run([*_COMMAND, "log", run, *superlink, "--stream"], env=_environment(), check=False)
    listed = _flwr("list", *superlink, "--run-id", run, "--format", "json")
    status = str((listed.get("runs") or [{}])[0].get("status", "unknown"))
    if status != "finished:completed":
        raise EngineError(f"Flower's run {run} is {status}; its log is above. Go on with --resume {directory}")


_COMMAND = [sys.executable, "-m", "flwr.cli.app"]


def _flwr(*arguments: str) -> dict[str, Any]:
    """Run Flower's command; return what it says as JSON."""
    done = subprocess.run([*_COMMAND, *arguments], env=_environment(), capture_output=True, text=True, check=False)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise EngineError(f"flwr {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}") from None
    return said if isinstance(said, dict) else {}


def _environment() -> dict[str, str]:
    """Flower asks the network for news and tells it about runs, unless told not to."""
    return {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", **os.environ}
