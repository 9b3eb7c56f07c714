"""Rounds that are played one exchange at a time, and recorded."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from tests.golden.compositions import COMMON, WEIGHTS, every

from onebasin.core.clients import Failure, Reply
from onebasin.core.state import State
from onebasin.federation.client.client import Client
from onebasin.federation.engines.single import InProcess
from onebasin.federation.messages import Request
from onebasin.federation.read_config import read_config
from onebasin.federation.round_loop import in_order
from onebasin.federation.run_config import RunConfig
from onebasin.federation.server.server import Server
from onebasin.learning.load_task import load_task
from onebasin.learning.task import Task
from onebasin.wire.message import Message, Section, decode_message, encode_message

COMPOSITIONS = [
    name
    for name, (_, changes) in every().items()
    if not any(WEIGHTS in change or "privacy" in change for change in changes)
]
"""The names of the compositions of `tests/golden` that need neither given weights nor an accountant."""


def composition(name: str, *changes: str) -> RunConfig:
    """Return a composition's configuration."""
    method, settings = every()[name]
    return read_config({"method": method}, [*settings, *changes])


def small(method: str, *changes: str) -> RunConfig:
    """Return the configuration of two short rounds on digits, of a network with 8 hidden neurons."""
    return read_config({"method": method}, [*COMMON, *changes])


def on_three_values(method: str = "fedavg", *changes: str, clients: int = 2) -> RunConfig:
    """Return the configuration of rounds on a `quadratic` task: a step halves the way to the client's target."""
    base = {
        "method": method,
        "task": {"clients": clients},
        "training": {"optimizer": "sgd", "lr": 0.5, "weight_decay": 0.0, "batch": 4, "steps": 1},
        "federation": {"rounds": 2, "weighting": "uniform"},
    }
    return read_config(base, changes)


@dataclass(frozen=True)
class Exchange:
    """What the server asked for, the bytes of its requests, and what came back."""

    round: int
    requests: Mapping[int, Request]
    orders: Mapping[int, bytes]
    replies: Mapping[int, bytes | Failure]


class Federation:
    """A server and its clients."""

    def __init__(self, config: RunConfig, task: Task | None = None) -> None:
        self.config = config
        self.task = load_task(config) if task is None else task
        self.server = self.another_server()
        self.client = Client(config, self.task)
        self.engine = InProcess(self.client)

    def another_server(self) -> Server:
        """Return a server that has not begun, made from the same configuration and task."""
        return Server(self.config, self.task)

    def exchanges(self, rounds: int = 0) -> Iterator[Exchange]:
        """Play the rounds (0: all); yield each exchange before the server takes the replies."""
        for round in range(1, (rounds or self.config.federation.rounds) + 1):
            orders = self.server.open(round)
            while orders:
                requests = dict(self.server.round.requests)
                replies = list(in_order(orders, self.engine.exchange(orders)))
                yield Exchange(round, requests, dict(orders), dict(replies))
                orders = self.server.close(replies)

    def play(self, rounds: int = 0) -> "Federation":
        """Play the rounds (0: all)."""
        for _ in self.exchanges(rounds):
            pass
        return self

    def state(self) -> bytes:
        """Return all that the server remembers, without the round in progress."""
        return State(self.server.state.slots, self.server.state.facts).to_bytes()


def first_round(config: RunConfig, task: Task, without: Collection[int] = ()) -> Server:
    """Play one round of a `quadratic` task from zeros; the replies of some clients are lost. Return the server."""
    server, engine = Server(config, task), InProcess(Client(config, task))
    server.state.slots["weights"] = {"w": torch.zeros(3)}
    replies: list[Reply] = list(engine.exchange(server.open(1)))
    assert not server.close([(c, Failure("gone") if c in without else reply) for c, reply in replies])
    return server


def weights_of(server: Server) -> list[float]:
    """Return the three values of a `quadratic` task's global model."""
    values: list[float] = server.state.slots["weights"]["w"].tolist()
    return values


def rewritten(data: bytes, *added: Section, without: Collection[str] = ()) -> bytes:
    """Return a message with more sections, or without some; its checksum is right."""
    message: Message = decode_message(data)
    kept = [section for section in message.sections if section.name not in without]
    return encode_message(message.run, message.round, message.sender, [*kept, *added])
