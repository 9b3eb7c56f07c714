"""The run directory: configuration, holdings, history, ledger, checkpoint, and finally the model and the summary."""

import fcntl
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from onebasin.core.atomic_write import append_lines, write_atomically
from onebasin.core.clients import ClientId
from onebasin.core.state import State
from onebasin.federation.engine import Engine
from onebasin.federation.run_config import RunConfig
from onebasin.results.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from onebasin.wire.ledger import Ledger

LEDGER_HEADER = "round,client,direction,kind,bytes\n"


class RunDirectoryError(ValueError):
    """A directory that has no usable run, already has one, or is used by another process."""


class RunDirectory:
    """The files of one run. A lock reserves them for one process, until `close`.

    `commit` writes a round: its line of history, its ledger entries, then its checkpoint. `reopen` removes what was
    written after the last checkpoint.
    path: the directory. history: the records of the rounds so far.
    """

    def __init__(self, path: Path, config: RunConfig) -> None:
        """Lock an existing directory. Raises RunDirectoryError when another process has locked it."""
        self.path = path
        self._run_id = config.identity()
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
        """Return the path of the configuration file. Raises RunDirectoryError when the directory has no run."""
        if not (path / "config.toml").exists():
            raise RunDirectoryError(f"{path} holds no run: it has no config.toml")
        return path / "config.toml"

    @classmethod
    def create(cls, path: Path, config: RunConfig, holdings: dict[str, Any]) -> "RunDirectory":
        """Create the directory of a new run.

        holdings: the number of examples of each class at each client, written as `holdings.json`.
        Raises RunDirectoryError when the directory already has a run, or when another process uses it.
        """
        if (path / "config.toml").exists():
            raise RunDirectoryError(f"{path} already holds a run; continue it with --resume, or choose another --out")
        (path / "checkpoint").mkdir(parents=True, exist_ok=True)
        directory = cls(path, config)
        write_atomically(path / "holdings.json", json.dumps(holdings).encode())
        write_atomically(path / "history.jsonl", b"")
        write_atomically(path / "ledger.csv", LEDGER_HEADER.encode())
        write_atomically(path / "config.toml", config.to_toml().encode())
        return directory

    @classmethod
    def reopen(cls, path: Path, config: RunConfig) -> tuple["RunDirectory", Checkpoint | None]:
        """Open the directory of a run, restore it to its last checkpoint, and return it with that checkpoint.

        What was written after the checkpoint is removed. The checkpoint is None when no round was completed.
        Raises CheckpointError or RunDirectoryError when files are damaged, missing, or of another run.
        """
        cls.config_path(path)
        directory = cls(path, config)
        try:
            for partial in path.glob(".*.partial"):  # left by a process that was killed while it wrote a file
                partial.unlink()
            (path / "checkpoint").mkdir(exist_ok=True)
            checkpoint = load_checkpoint(path / "checkpoint", directory._run_id)
            directory._rewind(checkpoint)
        except BaseException:
            directory.close()
            raise
        if checkpoint:
            directory._client_files = dict(checkpoint.clients)
        return directory, checkpoint

    def close(self) -> None:
        """Release the lock, so that another process can use the directory."""
        self._lock.close()

    def commit(self, record: dict[str, Any], ledger: Ledger, server: State, engine: Engine) -> None:
        """Write the files of one round.

        record: its line of history. ledger: its new entries are written and removed from memory. server, engine: their
        states are saved in the checkpoint.
        """
        self.history.append(record)
        append_lines(self.path / "history.jsonl", [json.dumps(record)])
        entries = (f"{e.round},{e.client},{e.direction},{e.kind.name.lower()},{e.bytes}" for e in ledger.drain())
        append_lines(self.path / "ledger.csv", entries)
        folder, previous_files = self.path / "checkpoint", self._client_files
        self._client_files = save_checkpoint(
            folder, self._run_id, record["round"], server, ledger, engine, previous_files
        )

    def write_model(self, model: nn.Module) -> None:
        """Write the final model's state dict as `model.safetensors`, with tied weights under each of their names."""
        form = torch.contiguous_format
        tensors = {name: tensor.clone(memory_format=form) for name, tensor in model.state_dict().items()}
        write_atomically(self.path / "model.safetensors", safetensors.torch.save(tensors))

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`, whose presence marks the run as finished."""
        write_atomically(self.path / "summary.json", json.dumps(summary, indent=2).encode())

    def read_summary(self) -> dict[str, Any] | None:
        """Return the summary; None when the run is not finished."""
        path = self.path / "summary.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def _rewind(self, checkpoint: Checkpoint | None) -> None:
        """Remove the lines of history and ledger that were written after the checkpoint, incomplete ones included.

        Raises RunDirectoryError when the remaining lines do not agree with the checkpoint.
        """
        last = checkpoint.round if checkpoint else 0
        history, ledger = self.path / "history.jsonl", self.path / "ledger.csv"
        lines = history.read_text(encoding="utf-8").splitlines() if history.exists() else []
        if checkpoint is None and (len(lines) > 1 or (self.path / "summary.json").exists()):
            raise RunDirectoryError(f"{self.path} has {len(lines)} rounds of history, but no checkpoint to go on from")
        try:
            self.history = [json.loads(line) for line in lines[:last]]
            numbers = [record["round"] for record in self.history]
        except (ValueError, KeyError, TypeError) as error:
            raise RunDirectoryError(f"{history} is damaged: {error!r}") from None
        if numbers != list(range(1, last + 1)):
            raise RunDirectoryError(f"{history} has the rounds {numbers}; the checkpoint is of round {last}")
        entries = ledger.read_text(encoding="utf-8").splitlines()[1:] if ledger.exists() else []
        kept = [entry for entry in entries if entry.count(",") == 4 and int(entry.split(",", 1)[0]) <= last]
        in_file = sum(int(entry.rsplit(",", 1)[1]) for entry in kept)
        in_checkpoint = checkpoint.ledger.totals()["total"] if checkpoint else 0
        if in_file != in_checkpoint:
            raise RunDirectoryError(
                f"{ledger} lists {in_file:,} bytes; the checkpoint of round {last} has {in_checkpoint:,}"
            )
        write_atomically(history, "".join(line + "\n" for line in lines[:last]).encode())
        write_atomically(ledger, (LEDGER_HEADER + "".join(entry + "\n" for entry in kept)).encode())
