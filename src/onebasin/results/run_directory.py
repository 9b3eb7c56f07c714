"""The run directory: configuration, holdings, history, ledger, checkpoint, and finally the model and the summary."""

import fcntl
import json
import math
from hashlib import blake2b
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from onebasin.core.atomic_write import append_lines, write_atomically
from onebasin.core.state import State
from onebasin.federation.engine import Engine
from onebasin.federation.run_config import RunConfig
from onebasin.results.checkpoint import (
    DIGEST_BYTES,
    Checkpoint,
    CheckpointError,
    digest_of,
    load_checkpoint,
    require_digest,
    save_checkpoint,
)
from onebasin.wire.ledger import Ledger

LEDGER_HEADER = "round,client,direction,kind,bytes\n"
GROWING = ("history.jsonl", "ledger.csv")
"""The files to which each round adds lines."""
FIXED = ("config.toml", "holdings.json")
"""The files that are written once, when the run begins."""


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
        self._checkpoint: Checkpoint | None = None
        self._fixed: dict[str, str] = {}
        self._digests = {name: blake2b(digest_size=DIGEST_BYTES) for name in GROWING}

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
        contents = {
            "holdings.json": json.dumps(holdings).encode(),
            "history.jsonl": b"",
            "ledger.csv": LEDGER_HEADER.encode(),
            "config.toml": config.to_toml().encode(),
        }
        directory._fixed = {name: digest_of(contents[name]) for name in FIXED}
        for name in GROWING:
            directory._digests[name].update(contents[name])
        directory._save_checkpoint(0, State(), Ledger(), None)
        for name, content in contents.items():  # the configuration last: it makes the directory a run
            write_atomically(path / name, content)
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
            for partial in path.rglob(".*.partial"):  # left by a process that was killed while it wrote a file
                partial.unlink()
            checkpoint = load_checkpoint(path / "checkpoint", directory._run_id)
            if checkpoint is None:
                rounds = len(_lines(path / "history.jsonl"))
                raise RunDirectoryError(f"{path} has {rounds} rounds of history, but no checkpoint to go on from")
            directory._rewind(checkpoint)
        except BaseException:
            directory.close()
            raise
        return directory, checkpoint if checkpoint.round else None

    def close(self) -> None:
        """Release the lock, so that another process can use the directory."""
        self._lock.close()

    def commit(self, record: dict[str, Any], ledger: Ledger, server: State, engine: Engine) -> None:
        """Write the files of one round.

        record: its line of history. ledger: its new entries are written and removed from memory. server, engine: their
        states are saved in the checkpoint.
        """
        self.history.append(record)
        self._append("history.jsonl", [json.dumps(record)])
        entries = [f"{e.round},{e.client},{e.direction},{e.kind.name.lower()},{e.bytes}" for e in ledger.drain()]
        self._append("ledger.csv", entries)
        self._save_checkpoint(record["round"], server, ledger, engine)

    def _append(self, name: str, lines: list[str]) -> None:
        append_lines(self.path / name, lines)
        self._digests[name].update("".join(f"{line}\n" for line in lines).encode())

    def _save_checkpoint(self, round: int, server: State, ledger: Ledger, engine: Engine | None) -> None:
        digests = {**self._fixed, **{name: digest.hexdigest() for name, digest in self._digests.items()}}
        self._checkpoint = save_checkpoint(
            self.path / "checkpoint", self._run_id, round, server, ledger, engine, self._checkpoint, digests
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

    def _rewind(self, checkpoint: Checkpoint) -> None:
        """Remove the lines of history and ledger that were written after the checkpoint, incomplete ones included.

        Raises CheckpointError when what remains, or another file, is not what the checkpoint was written with.
        """
        for name in FIXED:
            require_digest(self.path / name, checkpoint.directory[name])
        last = checkpoint.round
        lines = _lines(self.path / "history.jsonl")[:last]
        entries = [e for e in _lines(self.path / "ledger.csv")[1:] if _round_of(e) <= last]
        contents = {
            "history.jsonl": "".join(line + "\n" for line in lines).encode(),
            "ledger.csv": (LEDGER_HEADER + "".join(entry + "\n" for entry in entries)).encode(),
        }
        for name, content in contents.items():
            if digest_of(content) != checkpoint.directory[name]:
                raise CheckpointError(
                    f"{self.path / name}: the checkpoint is damaged: its lines up to round {last} are not those that "
                    "were written"
                )
        for name, content in contents.items():
            write_atomically(self.path / name, content)
            self._digests[name].update(content)
        self.history = [json.loads(line) for line in lines]
        self._fixed = {name: checkpoint.directory[name] for name in FIXED}
        self._checkpoint = checkpoint


def _lines(path: Path) -> list[str]:
    """Return a file's lines; none where it is missing or is no text."""
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError):
        return []


def _round_of(entry: str) -> float:
    """Return the round of a ledger entry; infinity for a line that is none."""
    number = entry.partition(",")[0]
    return int(number) if number.isascii() and number.isdigit() else math.inf
