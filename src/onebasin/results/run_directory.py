"""The run directory: configuration, holdings, history, ledger, checkpoint, and at the end the summary and the model."""

import fcntl
import json
from pathlib import Path
from typing import Any

import safetensors.torch

from onebasin.config import RunConfig
from onebasin.durable import append_lines, write_whole
from onebasin.engines.engine import ClientId, Engine
from onebasin.results.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from onebasin.state import State
from onebasin.wire.layout import Tensors
from onebasin.wire.ledger import Ledger

LEDGER_HEAD = "round,client,direction,kind,bytes\n"


class RunDirectoryError(ValueError):
    """A directory that does not hold what was asked for."""


class RunDirectory:
    """One run's files, held by one process at a time until `close`.

    A round is written whole: its line of history, its ledger entries, then its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = (path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RunDirectoryError(f"{path} is in use: another process is running it") from None
        self.history: list[dict[str, Any]] = []
        self._client_files: dict[ClientId, str] = {}

    @staticmethod
    def config_path(path: Path) -> Path:
        """Return the directory's configuration; `RunDirectoryError` if it holds no run."""
        if not (path / "config.toml").exists():
            raise RunDirectoryError(f"{path} holds no run: it has no config.toml")
        return path / "config.toml"

    @classmethod
    def create(cls, path: Path, config: RunConfig, holdings: dict[str, Any]) -> "RunDirectory":
        """Make the directory; `RunDirectoryError` if it already holds a run, or is in use."""
        if (path / "config.toml").exists():
            raise RunDirectoryError(f"{path} already holds a run; continue it with --resume, or choose another --out")
        (path / "checkpoint").mkdir(parents=True, exist_ok=True)
        directory = cls(path)
        write_whole(path / "holdings.json", json.dumps(holdings).encode())
        write_whole(path / "history.jsonl", b"")
        write_whole(path / "ledger.csv", LEDGER_HEAD.encode())
        write_whole(path / "config.toml", config.to_toml().encode())
        return directory

    @classmethod
    def reopen(cls, path: Path) -> tuple["RunDirectory", Checkpoint | None]:
        """Return the directory as it was at its last checkpoint; what was written later is taken back."""
        cls.config_path(path)
        directory = cls(path)
        try:
            (path / "checkpoint").mkdir(exist_ok=True)
            checkpoint = load_checkpoint(path / "checkpoint")
            directory._rewind(checkpoint.round if checkpoint else 0)
        except BaseException:
            directory.close()
            raise
        if checkpoint:
            directory._client_files = dict(checkpoint.clients)
        return directory, checkpoint

    def close(self) -> None:
        """Let others have the directory."""
        self._lock.close()

    def commit(self, record: dict[str, Any], ledger: Ledger, server: State, engine: Engine) -> None:
        """Write one round."""
        self.history.append(record)
        append_lines(self.path / "history.jsonl", [json.dumps(record)])
        entries = (f"{e.round},{e.client},{e.direction},{e.kind.name.lower()},{e.bytes}" for e in ledger.drain())
        append_lines(self.path / "ledger.csv", entries)
        self._client_files = save_checkpoint(
            self.path / "checkpoint", record["round"], server, ledger, engine, self._client_files
        )

    def write_model(self, weights: Tensors, buffers: Tensors) -> None:
        """Write the final model as an ordinary safetensors file of its parameters and buffers."""
        tensors = {name: tensor.contiguous() for name, tensor in (weights | buffers).items()}
        write_whole(self.path / "model.safetensors", safetensors.torch.save(tensors))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json, which says that the run is finished."""
        write_whole(self.path / "summary.json", json.dumps(summary, indent=2).encode())

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary of a finished run, else None."""
        path = self.path / "summary.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def _rewind(self, last: int) -> None:
        """Keep the rounds up to `last`: lines beyond it, or half a line, are from a round that did not end."""
        history, ledger = self.path / "history.jsonl", self.path / "ledger.csv"
        lines = history.read_text(encoding="utf-8").splitlines()[:last] if history.exists() else []
        self.history = [json.loads(line) for line in lines]
        if len(self.history) != last:
            raise RunDirectoryError(f"{history} has {len(self.history)} rounds; the checkpoint is of round {last}")
        write_whole(history, "".join(line + "\n" for line in lines).encode())
        entries = ledger.read_text(encoding="utf-8").splitlines()[1:] if ledger.exists() else []
        kept = [entry for entry in entries if entry.count(",") == 4 and int(entry.split(",", 1)[0]) <= last]
        write_whole(ledger, (LEDGER_HEAD + "".join(entry + "\n" for entry in kept)).encode())
