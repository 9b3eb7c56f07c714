"""Who takes part in a round."""

import torch

from onebasin.core.seeds import generator
from onebasin.federation.engines.engine import ClientId
from onebasin.federation.run_config import RunConfig


def cohort(config: RunConfig, clients: int, round: int) -> list[ClientId]:
    """Return the clients that a round asks: a draw from those that are there, or all of them. clients: of the run."""
    federation = config.federation
    there = clients if round >= federation.join_round else clients - federation.late
    size = federation.cohort
    if not size or size >= there or not config.method.federated:
        return list(range(there))
    draw = torch.randperm(there, generator=generator(config.seed, "cohort", round))
    return sorted(int(client) for client in draw[:size])
