"""Simulated dropouts: clients that receive a request and do not reply in that round."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from onebasin.core.clients import ClientId, Failure, Reply
from onebasin.core.seeds import generator
from onebasin.federation.engine import Engine
from onebasin.wire.message import decode_message


class DropoutEngine:
    """Wraps an engine: each client drops out of a round with a probability.

    Which clients drop out follows from the seed, the round and the client.
    """

    def __init__(self, engine: Engine, rate: float, seed: int) -> None:
        """Wrap an engine. rate: the probability that a client drops out of a round."""
        self._engine = engine
        self._rate = rate
        self._seed = seed

    def exchange(self, requests: Mapping[ClientId, bytes]) -> Iterator[Reply]:
        dropped = {client for client, request in requests.items() if self._drops_out(client, request)}
        for client in dropped:
            yield client, Failure("dropped out")
        yield from self._engine.exchange({client: r for client, r in requests.items() if client not in dropped})

    def _drops_out(self, client: ClientId, request: bytes) -> bool:
        draws = generator(self._seed, "dropout", decode_message(request).round, client)
        return bool(torch.rand((), generator=draws) < self._rate)

    def save(self, folder: Path, stamp: str) -> dict[ClientId, str]:
        return self._engine.save(folder, stamp)

    def restore(self, folder: Path, files: Mapping[ClientId, str]) -> None:
        self._engine.restore(folder, files)

    def read_state(self, client: ClientId) -> bytes:
        return self._engine.read_state(client)

    def close(self) -> None:
        self._engine.close()
