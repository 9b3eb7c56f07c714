"""Apply the mean update with momentum.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification. 2019
(arXiv 1909.06335), FedAvgM.
"""

from __future__ import annotations

from typing import Literal

from onebasin.core.layout import Tensors
from onebasin.core.settings import Fraction, Positive
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each, filled


class Momentum(AggregationRule):
    """v = beta v + mean update; w + rate * v.

    rate: the server's learning rate. beta: the momentum.
    """

    kind: Literal["momentum"] = "momentum"
    rate: Positive = 1.0
    beta: Fraction = 0.9

    def memory(self, weights: Tensors) -> Slots:
        return {"momentum": filled(weights, 0.0)}

    def step(self, slots: Slots, mean: Mean) -> Slots:
        weights, momentum = slots["weights"], slots["momentum"]
        velocity = each(weights, lambda n: self.beta * momentum[n] + mean.update[n])
        return {"momentum": velocity, "weights": each(weights, lambda n: weights[n] + self.rate * velocity[n])}
