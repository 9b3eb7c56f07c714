"""Simulated attacks: clients of a study that send other updates than they trained.

What is poisoned goes through the same codec as any update, so that it is well-formed and only its values are hostile.
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
    """For studies: a `fraction` of the clients, drawn from the seed, sends forged updates.

    `sign-flip`: the update times -`strength`; `scale`: the update times `strength`; `noise`: normal noise in its place,
    in each tensor with `strength` times the norm of the update.
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
    """Has some clients send forged updates."""

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
