"""Apply the mean update with momentum.

Hsu, Qi, Brown: Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification. 2019
(arXiv 1909.06335), FedAvgM.
"""

from __future__ import annotations

from typing import Literal

from onebasin.core.layout import Tensors
from onebasin.core.settings import Fraction, Positive
from onebasin.methods.aggregation._velocity import next_velocity, velocity_at_rest
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each


class Momentum(AggregationRule):
    """v = beta v + mean update; w + rate * v.

    rate: the server's learning rate. beta: the momentum.
    """

    kind: Literal["momentum"] = "momentum"
    rate: Positive = 1.0
    beta: Fraction = 0.9

    def memory(self, weights: Tensors) -> Slots:
        return velocity_at_rest(weights)

    def step(self, slots: Slots, mean: Mean) -> Slots:
        weights, velocity = slots["weights"], next_velocity(slots, mean, self.beta)
        return {"momentum": velocity, "weights": each(weights, lambda n: weights[n] + self.rate * velocity[n])}
