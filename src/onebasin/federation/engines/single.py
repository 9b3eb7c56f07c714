"""The default engine: clients run one after the other in this process; their states are in the checkpoint's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from onebasin.codecs.codec import NotFinite
from onebasin.core.atomic_write import write_atomically
from onebasin.core.clients import ClientId, Failure, Reply
from onebasin.core.state import State, StateError
from onebasin.federation.engine import EngineError, EngineSettings
from onebasin.learning.local_training import TrainingFailed
from onebasin.wire.error import WireError

if TYPE_CHECKING:
    from onebasin.federation.client.client import Client
    from onebasin.federation.run_config import RunConfig
    from onebasin.learning.task import Task


class Single(EngineSettings):
    """Clients run one after the other in this process."""

    kind: Literal["single"] = "single"

    def open(self, config: RunConfig, task: Task, link: Any) -> InProcess:
        from onebasin.federation.client.client import Client

        return InProcess(Client(config, task))


class InProcess:
    """Runs clients one after the other.

    Until `close`, torch uses one thread, so that all engines give equal bits. A client's state is kept in memory only
    from its change until the next `save`, and is then read from its file. So memory has the states of one round's
    cohort, whatever the number of clients.
    """

    def __init__(self, client: Client) -> None:
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(1)
        self._client = client
        self._states: dict[ClientId, State] = {}
        self._files: dict[ClientId, Path] = {}

    def exchange(self, requests: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        for client, request in requests.items():
            yield client, self.answer(client, request)

    def answer(self, client: ClientId, request: bytes) -> bytes | Failure:
        """Run one client, and return its reply. Its state changes only if there is a reply, and no failure."""
        state = self.state_of(client)
        try:
            work = self._client.begin(client, state, request)
            after, reply = self._client.finish(state, self._client.train(work))
        except (WireError, NotFinite, TrainingFailed) as error:
            return Failure(f"{type(error).__name__}: {error}")
        if after.slots or after.facts:
            self._states[client] = after
        return reply

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        written = {}
        for client in sorted(self._states):
            written[client] = f"client-{client:06d}-{stamp}.safetensors"
            write_atomically(folder / written[client], self.read_state(client))
        self._files |= {client: folder / name for client, name in written.items()}
        self._states.clear()
        return written

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        self._files = {client: folder / name for client, name in files.items()}
        self._states.clear()

    def state_of(self, client: ClientId) -> State:
        """Return the state of a client. Raises EngineError if its file is missing or damaged."""
        if client in self._states or client not in self._files:
            return self._states.get(client, State())
        path = self._files[client]
        try:
            return State.from_bytes(path.read_bytes())
        except (OSError, StateError) as error:
            raise EngineError(f"{path}: what client {client} remembers cannot be read: {error}") from None

    def put_state(self, client: ClientId, state: State) -> None:
        """Replace the state of a client."""
        self._states[client] = state

    def read_state(self, client: ClientId) -> bytes:
        return self.state_of(client).to_bytes()

    def close(self) -> None:
        self._states.clear()
        self._files.clear()
        torch.set_num_threads(self._threads_before)
