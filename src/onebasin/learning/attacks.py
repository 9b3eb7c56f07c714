"""Simulated attacks: clients of a study that send other updates than they trained.

What is poisoned goes through the same codec as any update, so that it is well-formed and only its values are hostile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from onebasin.core.layout import Tensors
from onebasin.core.seeds import generator
from onebasin.federation.run_config import Attack
from onebasin.learning.local_training import Trained


def hostile_clients(attack: Attack | None, clients: int, seed: int) -> frozenset[int]:
    """Return the clients that attack, in every round: a `fraction` of all, rounded, drawn from the run's seed."""
    if attack is None:
        return frozenset()
    order = torch.randperm(clients, generator=generator(seed, "attack"))
    return frozenset(order[: round(attack.fraction * clients)].tolist())


def poisoned(attack: Attack, began: Mapping[str, torch.Tensor], trained: Trained, draws: torch.Generator) -> Trained:
    """Return what a hostile client says it trained, where an honest one would say `trained`, from the weights `began`.

    `sign-flip`: the update turned round, times `strength`; `scale`: the update times `strength`; `noise`: normal noise
    in its place, in each tensor `strength` times as long as the update.
    """
    weights: Tensors = {}
    for name, value in trained.weights.items():
        update = value - began[name]
        if attack.kind == "noise":
            noise = torch.randn(update.shape, generator=draws)
            forged = noise * (attack.strength * update.norm() / noise.norm().clamp_min(1e-30))
        else:
            forged = update * (attack.strength if attack.kind == "scale" else -attack.strength)
        weights[name] = began[name] + forged
    return replace(trained, weights=weights)
