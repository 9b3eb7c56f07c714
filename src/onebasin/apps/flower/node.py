"""A node: the client that lives on this machine, with its data and its memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from onebasin.apps.flower.states import NOTHING, StateLost, States
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
    """What a node's configuration says: which client it is, where it remembers, whence its own data comes.

    data: ``package.module:function``, which returns the examples that this machine holds (a `Split`); "" for a share
    of the run's data set.
    """

    client: ClientId
    memory: Path
    data: str = ""

    @classmethod
    def read(cls, settings: Mapping[str, Value]) -> "Node":
        """Return the node that ``--node-config`` describes; `ConfigError` names the key that is wrong."""
        client, memory, data = settings.get("partition-id"), settings.get("state-dir"), settings.get("data", "")
        if isinstance(client, bool) or not isinstance(client, int) or client < 0:
            raise ConfigError(f"node-config: partition-id is {client!r}; expected the client's number, 0 or more")
        if not isinstance(memory, str) or not memory:
            raise ConfigError(f"node-config: state-dir is {memory!r}; expected a directory of this node's own")
        if not isinstance(data, str):
            raise ConfigError(f'node-config: data is {data!r}; expected "package.module:function"')
        return cls(client, Path(memory), data)

    def answer(self, config: RunConfig, order: bytes, begin_from: str) -> tuple[bytes | Failure, str]:
        """Return the reply to an order, and the mark of what the client remembers after it."""
        states = States(self.memory / config.identity() / f"client-{self.client:06d}")
        with states.held():
            try:
                round = decode_message(order).round
                before = states.read(begin_from)
            except WireError as error:
                return Failure(f"WireError: {error}"), begin_from
            except StateLost as error:  # a WireError to the server, which then holds that the client knows nothing
                return Failure(f"WireError: {error}"), NOTHING
            engine = InProcess(Client(config, self.task(config)))
            engine.put_state(self.client, before)
            reply = engine.answer(self.client, order)
            if isinstance(reply, Failure):
                return reply, begin_from
            return reply, states.keep(round, begin_from, engine.state_of(self.client))

    def task(self, config: RunConfig) -> Task:
        """Return the run's task, as this node sees it. Errors: those of `load_task` and of `with_own_data`."""
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
