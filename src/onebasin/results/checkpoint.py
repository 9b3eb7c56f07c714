"""Checkpoints: after each round, the state from which a run is resumed with identical results.

The folder contains the server's state, each client's state from the last round that changed it, and `manifest.json`,
which lists the files of the checkpoint and of the run directory, each with a digest of its content, and has a digest of
itself. The manifest is written last and replaced atomically, so that a process that is killed leaves the previous
checkpoint intact. Files that the new manifest does not list are then deleted.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

import onebasin
from onebasin.core.atomic_write import write_atomically
from onebasin.core.clients import ClientId
from onebasin.core.state import State, StateError
from onebasin.federation.engine import Engine
from onebasin.wire.ledger import Ledger
from onebasin.wire.message import VERSION

MANIFEST = "manifest.json"
DIGEST_BYTES = 16


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or that belongs to another run or another version."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after a round.

    clients: the name of each client's state file in the checkpoint folder. digests: of these files, by name. directory:
    the digests of the run directory's other files, by name, as they were after the round.
    """

    round: int
    server: State
    ledger: Ledger
    clients: Mapping[ClientId, str]
    digests: Mapping[str, str]
    directory: Mapping[str, str]


def digest_of(content: bytes) -> str:
    """Return 32 hex digits that follow from a file's content."""
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def save_checkpoint(
    folder: Path,
    run_id: str,
    round: int,
    server: State,
    ledger: Ledger,
    engine: Engine | None,
    previous: Checkpoint | None,
    directory: Mapping[str, str],
) -> Checkpoint:
    """Write the checkpoint of a round, and return it.

    run_id: the identity of the run's configuration. engine: saves the states of its clients; None before the first
    round. previous: what the previous call returned; clients whose state has not changed since then keep their files.
    directory: the digests of the run directory's other files.
    """
    stamp = f"{round:06d}"
    server_file = f"server-{stamp}.safetensors"
    content = server.to_bytes()
    write_atomically(folder / server_file, content)
    changed = {} if engine is None else engine.save(folder, stamp)
    clients = {**(previous.clients if previous else {}), **changed}
    digests = {
        name: digest for name, digest in (previous.digests if previous else {}).items() if name in clients.values()
    }
    digests |= {name: digest_of((folder / name).read_bytes()) for name in changed.values()}
    digests[server_file] = digest_of(content)
    manifest = {
        "onebasin": onebasin.__version__,
        "torch": torch.__version__,
        "wire": VERSION,
        "run": run_id,
        "round": round,
        "server": server_file,
        "clients": {str(client): name for client, name in sorted(clients.items())},
        "digests": digests,
        "directory": dict(directory),
        "ledger": ledger.to_facts(),
    }
    write_atomically(folder / MANIFEST, json.dumps({"digest": _own_digest(manifest), **manifest}).encode())
    listed = {MANIFEST, server_file, *clients.values()}
    for path in folder.iterdir():
        if path.name not in listed:
            path.unlink()
    return Checkpoint(round, server, ledger, clients, digests, dict(directory))


def load_checkpoint(folder: Path, run_id: str) -> Checkpoint | None:
    """Return the checkpoint in `folder`; None when there is none.

    run_id: the identity of the run's configuration.
    Raises CheckpointError when a file is damaged or missing (the message names it), and when the checkpoint belongs to
    another run, or to a version of onebasin or torch that would not continue it with equal bits.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    manifest = _read_manifest(path)
    _require_versions(path, manifest)
    if manifest["run"] != run_id:
        raise CheckpointError(
            f"{path}: the checkpoint is of run {manifest['run']}, not of {run_id}: a setting, or code from outside the "
            "package, has changed"
        )
    clients = {int(client): name for client, name in manifest["clients"].items()}
    for name, digest in manifest["digests"].items():
        require_digest(folder / name, digest)
    path = folder / manifest["server"]
    try:
        server = State.from_bytes(path.read_bytes())
    except StateError as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error}") from None
    ledger = Ledger.from_facts(manifest["ledger"])
    return Checkpoint(manifest["round"], server, ledger, clients, manifest["digests"], manifest["directory"])


def require_digest(path: Path, digest: str) -> None:
    """Raise CheckpointError for a file that cannot be read, or whose content has another digest."""
    try:
        found = digest_of(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error.strerror or error}") from None
    if found != digest:
        raise CheckpointError(f"{path}: the checkpoint is damaged: the file's digest is {found}, not {digest}")


def _read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest. Raises CheckpointError when it is damaged."""
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        if manifest.get("wire") != VERSION:
            raise CheckpointError(
                f"{path}: the run is of another version of onebasin, whose messages have another format than "
                f"version {VERSION}; it cannot go on with this one"
            )
        digest = manifest.pop("digest")
        found = _own_digest(manifest)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: the checkpoint is damaged: {error!r}") from None
    if found != digest:
        raise CheckpointError(f"{path}: the checkpoint is damaged: the file's digest is {found}, not {digest}")
    return manifest


def _own_digest(manifest: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(manifest, sort_keys=True).encode())


def _require_versions(path: Path, manifest: Mapping[str, Any]) -> None:
    """Raise CheckpointError for versions that do not compute the same."""
    for package, version in (("onebasin", onebasin.__version__), ("torch", torch.__version__)):
        if manifest[package] != version:
            raise CheckpointError(
                f"{path}: the run was made with {package} {manifest[package]}; with {version} its weights would not be "
                f"those of a run that was never stopped; resume it with {package}=={manifest[package]}"
            )
