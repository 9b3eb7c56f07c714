"""Checkpoints: after each round, all that is needed to go on as if nothing had happened.

The folder holds the server's state, each client's state from the last round that changed it, and `manifest.json`,
which names the files that belong together. The manifest is replaced last and at once; other files are dropped.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onebasin.core.atomic_write import write_whole
from onebasin.core.clients import ClientId
from onebasin.core.state import State, StateError
from onebasin.federation.engine import Engine
from onebasin.wire.ledger import Ledger
from onebasin.wire.message import VERSION

MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used."""


@dataclass(frozen=True)
class Checkpoint:
    """What was saved after a round."""

    round: int
    server: State
    ledger: Ledger
    clients: Mapping[ClientId, str]


def save_checkpoint(
    folder: Path,
    run: str,
    round: int,
    server: State,
    ledger: Ledger,
    engine: Engine,
    known: Mapping[ClientId, str],
) -> dict[ClientId, str]:
    """Write the checkpoint of `run`; return the clients' files, which are `known` to the next call."""
    stamp = f"{round:06d}"
    server_file = f"server-{stamp}.safetensors"
    write_whole(folder / server_file, server.to_bytes())
    clients = {**known, **engine.save(folder, stamp)}
    manifest = {
        "wire": VERSION,
        "run": run,
        "round": round,
        "server": server_file,
        "clients": {str(client): name for client, name in sorted(clients.items())},
        "ledger": ledger.to_facts(),
    }
    write_whole(folder / MANIFEST, json.dumps(manifest).encode())
    named = {MANIFEST, server_file, *clients.values()}
    for path in folder.iterdir():
        if path.name not in named:
            path.unlink()
    return clients


def load_checkpoint(folder: Path, run: str) -> Checkpoint | None:
    """Return the checkpoint in `folder`, None if there is none.

    `CheckpointError` names a file that is damaged, and says so when the checkpoint is not of `run`.
    """
    manifest_path = folder / MANIFEST
    if not manifest_path.exists():
        return None
    path = manifest_path
    try:
        manifest: dict[str, Any] = json.loads(manifest_path.read_bytes())
        if manifest.get("wire") != VERSION:
            raise CheckpointError(
                f"{path}: the run is of another version of onebasin, whose messages have another format than "
                f"version {VERSION}; it cannot go on with this one"
            )
        if manifest["run"] != run:
            raise CheckpointError(f"{path}: the checkpoint is of run {manifest['run']}, not of {run}")
        path = folder / manifest["server"]
        server = State.from_bytes(path.read_bytes())
        clients = {int(client): name for client, name in manifest["clients"].items()}
        for name in clients.values():
            path = folder / name
            State.from_bytes(path.read_bytes())
        return Checkpoint(manifest["round"], server, Ledger.from_facts(manifest["ledger"]), clients)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StateError) as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error!r}") from None
