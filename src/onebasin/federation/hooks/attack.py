"""Simulated attacks, for studies: some clients send forged updates.

A forged update is encoded like any other, so the message is well-formed, and only its values are hostile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch

from onebasin.core.layout import Tensors
from onebasin.core.seeds import generator
from onebasin.core.settings import Fraction, Positive, Settings
from onebasin.federation.hooks.hook import Hook, HookContext
from onebasin.learning.local_training import Start, Trained


class Attack(Settings):
    """Forged updates of some clients, for studies (table `federation.attack`).

    kind: what they send. `sign-flip`: the update times -`strength`; `scale`: the update times `strength`; `noise`:
    normal noise, in each tensor with `strength` times the norm of the update.
    fraction: the share of the clients that are hostile, in all rounds; the run's seed selects them.
    strength: the factor on the update, or on its norm.
    """

    exchange: ClassVar[str] = "onebasin.federation.hooks.attack:HostileClients"

    kind: Literal["sign-flip", "noise", "scale"] = "sign-flip"
    fraction: Fraction = 0.2
    strength: Positive = 1.0

    def run_needs(self, config: Any) -> Iterator[str]:
        """Yield a sentence for each setting of the run that does not go with forged updates."""
        if config.method.models == "masked":
            yield (
                f"federation.attack={self.kind!r} forges weights, and method.models='masked' says "
                "only which are kept: every forged mask would keep all"
            )


class HostileClients(Hook):
    """Replaces the updates of hostile clients by forged ones, after their training."""

    def __init__(self, context: HookContext) -> None:
        super().__init__(context)
        attack = context.config.federation.attack
        assert attack is not None
        self._attack: Attack = attack
        self._hostile = hostile_clients(attack, context.clients, context.config.seed)

    def after_training(self, client: int, round: int, start: Start, trained: Trained) -> Trained:
        if client not in self._hostile:
            return trained
        draws = generator(self.context.config.seed, "poison", round, client)
        return poisoned(self._attack, start.weights, trained, draws)


def hostile_clients(attack: Attack | None, clients: int, seed: int) -> frozenset[int]:
    """Return the hostile clients: `attack.fraction` of all, rounded, selected by the run's seed."""
    if attack is None:
        return frozenset()
    order = torch.randperm(clients, generator=generator(seed, "attack"))
    return frozenset(order[: round(attack.fraction * clients)].tolist())


def poisoned(attack: Attack, initial: Mapping[str, torch.Tensor], trained: Trained, draws: torch.Generator) -> Trained:
    """Return the forged result of a hostile client's training.

    initial: the weights before training. trained: the true result. draws: of the noise.
    """
    weights: Tensors = {}
    for name, value in trained.weights.items():
        update = value - initial[name]
        if attack.kind == "noise":
            noise = torch.randn(update.shape, generator=draws)
            forged = noise * (attack.strength * update.norm() / noise.norm().clamp_min(1e-30))
        else:
            forged = update * (attack.strength if attack.kind == "scale" else -attack.strength)
        weights[name] = initial[name] + forged
    return replace(trained, weights=weights)
