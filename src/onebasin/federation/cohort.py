"""The cohort of a round: which clients take part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from onebasin.core.clients import ClientId
from onebasin.core.seeds import generator

if TYPE_CHECKING:
    from onebasin.federation.run_config import RunConfig


def cohort(config: RunConfig, clients: int, round: int) -> list[ClientId]:
    """Return the clients of a round: a random draw from those that are there, or all. clients: how many the run has."""
    federation = config.federation
    there = clients if round >= federation.join_round else clients - federation.late
    size = federation.cohort
    if not size or size >= there or not config.method.federated:
        return list(range(there))
    draw = torch.randperm(there, generator=generator(config.seed, "cohort", round))
    return sorted(int(client) for client in draw[:size])
