"""Apply the mean update with Nesterov momentum.

Douillard et al.: DiLoCo: Distributed Low-Communication Training of Language Models. 2023 (arXiv 2311.08105), the outer
optimiser.
"""

from __future__ import annotations

from typing import Literal

from onebasin.core.layout import Tensors
from onebasin.core.settings import Fraction, Positive
from onebasin.methods.aggregation._velocity import next_velocity, velocity_at_rest
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each


class Nesterov(AggregationRule):
    """v = beta v + mean update; w + rate * (mean update + beta v).

    rate: the server's (outer) learning rate. beta: the momentum.
    """

    kind: Literal["nesterov"] = "nesterov"
    rate: Positive = 0.7
    beta: Fraction = 0.9

    def memory(self, weights: Tensors) -> Slots:
        return velocity_at_rest(weights)

    def step(self, slots: Slots, mean: Mean) -> Slots:
        weights, velocity = slots["weights"], next_velocity(slots, mean, self.beta)
        after = each(weights, lambda n: weights[n] + self.rate * (mean.update[n] + self.beta * velocity[n]))
        return {"momentum": velocity, "weights": after}
