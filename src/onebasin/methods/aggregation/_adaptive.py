"""The base class of Adam and Yogi: apply the mean update with an adaptive step.

Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan: Adaptive Federated Optimization. ICLR 2021 (arXiv
2003.00295), algorithm 2.
"""

from __future__ import annotations

from torch import Tensor

from onebasin.core.layout import Tensors
from onebasin.core.settings import Fraction, Positive
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each, filled


class Adaptive(AggregationRule):
    """m = beta1 m + (1 - beta1) mean update; w + rate * m / (sqrt(v) + tau).

    rate: the server's learning rate. beta1, beta2: decay rates of the moments m and v. tau: bounds the step where v is
    small; v starts at tau^2.
    """

    rate: Positive = 0.01
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    tau: Positive = 1e-3

    def memory(self, weights: Tensors) -> Slots:
        return {"momentum": filled(weights, 0.0), "second": filled(weights, self.tau**2)}

    def step(self, slots: Slots, mean: Mean) -> Slots:
        weights, momentum, second = slots["weights"], slots["momentum"], slots["second"]
        m = each(weights, lambda n: self.beta1 * momentum[n] + (1 - self.beta1) * mean.update[n])
        v = each(weights, lambda n: self._second_moment(second[n], mean.update[n] ** 2))
        after = each(weights, lambda n: weights[n] + self.rate * m[n] / (v[n].sqrt() + self.tau))
        return {"momentum": m, "second": v, "weights": after}

    def _second_moment(self, second: Tensor, square: Tensor) -> Tensor:
        """Return the next v, from the last one and the square of the mean update."""
        raise NotImplementedError
