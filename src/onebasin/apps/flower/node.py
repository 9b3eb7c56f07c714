"""A node: one client on this machine, with its data and the folder of its states."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onebasin.apps.flower.states import EMPTY, StateLost, States
from onebasin.core.clients import ClientId, Failure
from onebasin.core.references import build
from onebasin.core.settings import ConfigError
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.run_config import RunConfig
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task, with_own_data
from onebasin.wire.error import WireError
from onebasin.wire.message import decode_message

Value = str | int | float | bool | bytes


@dataclass(frozen=True)
class Node:
    """The configuration of a node.

    client: the number of its client.
    folder: where the client's states are stored.
    data: ``package.module:function``, which returns the examples on this machine (a `Split`); "" for the client's part
    of the run's data set.
    """

    client: ClientId
    folder: Path
    data: str = ""

    @classmethod
    def read(cls, settings: Mapping[str, Value]) -> "Node":
        """Return the node that ``--node-config`` describes. Raises ConfigError, which names the key that is wrong."""
        client, folder, data = settings.get("partition-id"), settings.get("state-dir"), settings.get("data", "")
        if isinstance(client, bool) or not isinstance(client, int) or client < 0:
            raise ConfigError(f"node-config: partition-id is {client!r}; expected the client's number, 0 or more")
        if not isinstance(folder, str) or not folder:
            raise ConfigError(f"node-config: state-dir is {folder!r}; expected a directory of this node's own")
        if not isinstance(data, str):
            raise ConfigError(f'node-config: data is {data!r}; expected "package.module:function"')
        return cls(client, Path(folder), data)

    def answer(self, config: RunConfig, request: bytes, digest: str) -> tuple[bytes | Failure, str]:
        """Return the client's reply to a request, and the digest of its state afterwards.

        digest: of the state from which the client must start.
        """
        states = States(self.folder / config.identity() / f"client-{self.client:06d}")
        with states.locked():
            try:
                round = decode_message(request).round
                before = states.read(digest)
            except WireError as error:
                return Failure(f"WireError: {error}"), digest
            except StateLost as error:  # reported as a WireError, after which the server assumes an empty state
                return Failure(f"WireError: {error}"), EMPTY
            engine = InProcess(Client(config, self.task(config)))
            engine.put_state(self.client, before)
            reply = engine.answer(self.client, request)
            if isinstance(reply, Failure):
                return reply, digest
            return reply, states.save(round, digest, engine.state_of(self.client))

    def task(self, config: RunConfig) -> Task:
        """Return the run's task with the examples of this node.

        Raises ConfigError if the node has data of its own and the run does not use it, or the other way round.
        Errors: also those of `load_task` and `with_own_data`.
        """
        task = load_task(config)
        own = config.task.partition.kind == "own"
        if own and not self.data:
            raise ConfigError("task.partition='own': this node brings no data; set data in its node-config")
        if self.data and not own:
            raise ConfigError(
                f"this node brings its own data ({self.data}), but the run deals out that of {config.task.dataset} "
                f"(task.partition={config.task.partition.kind!r}); use task.partition='own'"
            )
        return with_own_data(task, self.client, build(self.data)) if own else task
