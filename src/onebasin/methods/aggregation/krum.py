"""Average the updates that are closest to their nearest neighbours.

Blanchard, El Mhamdi, Guerraoui, Stainer: Machine Learning with Adversaries. NIPS 2017 (arXiv 1703.02757), section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from onebasin.core.layout import Tensors
from onebasin.core.settings import Count, Positive
from onebasin.methods.aggregation._ordered import mean_without_extremes
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, Mean, MergeContext, Merged, Slots, added


class Krum(AggregationRule):
    """w + rate * the mean of the `keep` updates that are closest to their nearest neighbours.

    Of n updates, each is scored by its squared distances to the n - byzantine - 2 nearest others. All clients count
    equally, since an attacker could report any number of examples.
    byzantine: the largest number of hostile clients in a round.
    keep: number of updates that are averaged; above 1, this is Multi-Krum.
    rate: the server's learning rate.
    """

    sees_each_model: ClassVar[bool] = True
    is_robust: ClassVar[bool] = True

    kind: Literal["krum"] = "krum"
    byzantine: Count = 2
    keep: Count = 1
    rate: Positive = 1.0

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return added(slots, mean.update, self.rate)

    def minimum_replies(self, replies: int) -> int:
        return max(2 * self.byzantine + 3, self.byzantine + self.keep)

    def why_minimum(self, replies: int) -> str:
        return f"combine={self.kind!r}: byzantine={self.byzantine} and keep={self.keep}"

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        self.require_replies(len(models))
        states = [one.state for one in models]
        scores = krum_scores(squared_distances(states), self.byzantine)
        kept = sorted(sorted(range(len(states)), key=lambda index: (scores[index], index))[: self.keep])
        left_out = [models[index].client for index in range(len(states)) if index not in kept]
        return Merged(mean_without_extremes([states[index] for index in kept], 0, largest=True), left_out)


def squared_distances(states: Sequence[Tensors]) -> Tensor:
    """Return the squared distances between states, over all their floating-point values: float64 [n, n]."""
    total = torch.zeros(len(states), len(states), dtype=torch.float64)
    for name, first in states[0].items():
        if first.is_floating_point():
            rows = torch.stack([state[name].reshape(-1) for state in states]).double()
            total += torch.stack([(rows - row).square().sum(1) for row in rows])
    return total.nan_to_num(nan=math.inf)  # inf - inf, if two clients sent infinite values


def krum_scores(distances: Tensor, byzantine: int) -> list[float]:
    """Return, for each state, the sum of its squared distances to the n - byzantine - 2 nearest others.

    distances: squared, [n, n].
    Source: Blanchard et al. 2017, section 4.
    """
    nearest = len(distances) - byzantine - 2
    return [
        float(torch.cat([row[:index], row[index + 1 :]]).sort().values[:nearest].sum())
        for index, row in enumerate(distances)
    ]
