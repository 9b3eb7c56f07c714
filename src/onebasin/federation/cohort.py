"""The cohort of a round: which clients take part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from onebasin.core.clients import ClientId
from onebasin.core.seeds import generator

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig


def cohort(config: RunConfig, clients: int, round: int) -> list[ClientId]:
    """Return the clients of a round, sorted: a random sample of those that have joined, or all of them.

    clients: the number of clients of the run. round: from 1.
    """
    federation = config.federation
    joined = clients if round >= federation.join_round else clients - federation.late
    size = federation.cohort
    if not size or size >= joined or not config.method.federated:
        return list(range(joined))
    order = torch.randperm(joined, generator=generator(config.seed, "cohort", round))
    return sorted(int(client) for client in order[:size])
