"""Handing a run to a SuperLink, with Flower's own command, and following it to its end."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tomli_w

from onebasin.apps.flower.settings import Settings
from onebasin.federation.engine import EngineError
from onebasin.federation.engines.flower import FlowerNodes
from onebasin.federation.run_config import RunConfig

APP = Path(__file__).parent / "app"

PAUSE = 3.0
"""Seconds between attempts to reach a SuperLink that has gone away."""


def submit(config: RunConfig, directory: Path) -> None:
    """Have the SuperLink play the run in `directory` (on its machine), and show its log until it ends.

    `EngineError` when Flower is not installed, cannot be reached, or the run does not end well.
    """
    engine = config.engine
    assert isinstance(engine, FlowerNodes)
    superlink = [engine.superlink] if engine.superlink else []
    with tempfile.TemporaryDirectory() as folder:
        values = Path(folder) / "run.toml"
        values.write_text(tomli_w.dumps(Settings(config, directory.absolute()).write()), encoding="utf-8")
        started = _flwr("run", str(APP), *superlink, "--run-config", str(values), "--format", "json")
    run = str(started.get("run-id") or "")
    if not run:
        raise EngineError(f"the SuperLink did not take the run: {started.get('error-message', started)}")
    status = _follow(run, superlink, engine.deadline)
    if status != "finished:completed":
        raise EngineError(f"Flower's run {run} is {status}; its log is above. Go on with --resume {directory}")


def _follow(run: str, superlink: list[str], patience: float) -> str:
    """Show a run's log to its end, also when the SuperLink goes away for up to so many seconds; return its status."""
    seen = time.monotonic()
    while True:
        subprocess.run([*_COMMAND, "log", run, *superlink, "--stream"], env=_environment(), check=False)
        status = _status(run, superlink)
        if status.startswith("finished"):
            return status
        if status:
            seen = time.monotonic()
        elif time.monotonic() - seen > patience:
            raise EngineError(
                f"the SuperLink has been away for {patience:g} s; run {run} goes on where it can. See `flwr list`"
            )
        time.sleep(PAUSE)


def _status(run: str, superlink: list[str]) -> str:
    """Return what the SuperLink says of a run; nothing where it does not answer."""
    try:
        listed = _flwr("list", *superlink, "--run-id", run, "--format", "json")
    except EngineError:
        return ""
    return str((listed.get("runs") or [{}])[0].get("status", ""))


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
