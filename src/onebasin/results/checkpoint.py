"""Checkpoints: after each round, the state from which a run is resumed with identical results.

The folder contains the server's state, each client's state from the last round that changed it, and `manifest.json`,
which lists the files of the checkpoint. The manifest is written last and replaced atomically, so that a process that
is killed leaves the previous checkpoint intact. Files that the new manifest does not list are then deleted.
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
    """A checkpoint that is damaged, or that belongs to another run or another version."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round. clients: the name of each client's state file in the checkpoint folder."""

    round: int
    server: State
    ledger: Ledger
    clients: Mapping[ClientId, str]


def save_checkpoint(
    folder: Path,
    run_id: str,
    round: int,
    server: State,
    ledger: Ledger,
    engine: Engine,
    previous_files: Mapping[ClientId, str],
) -> dict[ClientId, str]:
    """Write the checkpoint of a round, and return the name of each client's state file.

    run_id: the identity of the run's configuration. previous_files: what the previous call returned; clients whose
    state has not changed since then keep their files.
    """
    stamp = f"{round:06d}"
    server_file = f"server-{stamp}.safetensors"
    write_whole(folder / server_file, server.to_bytes())
    clients = {**previous_files, **engine.save(folder, stamp)}
    manifest = {
        "wire": VERSION,
        "run": run_id,
        "round": round,
        "server": server_file,
        "clients": {str(client): name for client, name in sorted(clients.items())},
        "ledger": ledger.to_facts(),
    }
    write_whole(folder / MANIFEST, json.dumps(manifest).encode())
    listed = {MANIFEST, server_file, *clients.values()}
    for path in folder.iterdir():
        if path.name not in listed:
            path.unlink()
    return clients


def load_checkpoint(folder: Path, run_id: str) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None when there is none.

    run_id: the identity of the run's configuration.
    Raises CheckpointError when a file is damaged or missing (the message names it), and when the checkpoint belongs to
    another run or to a version with another message format.
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
        if manifest["run"] != run_id:
            raise CheckpointError(
                f"{path}: the checkpoint is of run {manifest['run']}, not of {run_id}: a setting, or code from outside "
                "the package, has changed"
            )
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
