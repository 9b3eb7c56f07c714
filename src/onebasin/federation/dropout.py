"""Simulated dropouts: clients that take an order and are not heard of again in that round."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from onebasin.core.clients import ClientId, Failure, Reply
from onebasin.core.seeds import generator
from onebasin.federation.engine import Engine
from onebasin.wire.message import decode_message


class Dropping:
    """Another engine, with clients that vanish with probability `rate`, by (seed, round, client)."""

    def __init__(self, engine: Engine, rate: float, seed: int) -> None:
        self._engine = engine
        self._rate = rate
        self._seed = seed

    def exchange(self, orders: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        gone = {client for client, order in orders.items() if self._vanishes(client, order)}
        for client in gone:
            yield client, Failure("dropped out")
        yield from self._engine.exchange({client: o for client, o in orders.items() if client not in gone})

    def _vanishes(self, client: ClientId, order: bytes) -> bool:
        draw = generator(self._seed, "dropout", decode_message(order).round, client)
        return bool(torch.rand((), generator=draw) < self._rate)

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        return self._engine.save(folder, stamp)

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        self._engine.restore(folder, files)

    def read_state(self, client: ClientId) -> bytes:
        return self._engine.read_state(client)

    def close(self) -> None:
        self._engine.close()
