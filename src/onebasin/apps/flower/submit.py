"""Submitting a run to a SuperLink with Flower's own command, and following it to its end."""

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
"""Seconds between attempts to reach a SuperLink that does not answer."""


def submit(config: RunConfig, directory: Path) -> None:
    """Submit a run to the SuperLink, and show its log until it ends.

    directory: the run directory, on the SuperLink's machine.
    Raises EngineError if Flower is not installed, if the SuperLink cannot be reached, or if the run fails.
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


def _follow(run: str, superlink: list[str], limit: float) -> str:
    """Show the log of a run until it ends, and return its status.

    limit: seconds for which the SuperLink may be unreachable; after that, EngineError is raised.
    """
    last_seen = time.monotonic()
    while True:
        subprocess.run([*_COMMAND, "log", run, *superlink, "--stream"], env=_environment(), check=False)
        status = _status(run, superlink)
        if status.startswith("finished"):
            return status
        if status:
            last_seen = time.monotonic()
        elif time.monotonic() - last_seen > limit:
            raise EngineError(
                f"the SuperLink has been away for {limit:g} s; run {run} goes on where it can. See `flwr list`"
            )
        time.sleep(PAUSE)


def _status(run: str, superlink: list[str]) -> str:
    """Return the status of a run; "" if the SuperLink does not answer."""
    try:
        listed = _flwr("list", *superlink, "--run-id", run, "--format", "json")
    except EngineError:
        return ""
    return str((listed.get("runs") or [{}])[0].get("status", ""))


_COMMAND = [sys.executable, "-m", "flwr.cli.app"]


def _flwr(*arguments: str) -> dict[str, Any]:
    """Run Flower's command, and return its output, a JSON object. Raises EngineError if the output is not JSON."""
    done = subprocess.run([*_COMMAND, *arguments], env=_environment(), capture_output=True, text=True, check=False)
    try:
        output = json.loads(done.stdout)
    except ValueError:
        raise EngineError(f"flwr {arguments[0]} failed: {(done.stderr or done.stdout).strip()[-500:]}") from None
    return output if isinstance(output, dict) else {}


def _environment() -> dict[str, str]:
    """Return the environment of Flower's command, without telemetry and update checks by default."""
    return {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", **os.environ}
