"""Step in the direction of the signs of the mean update.

Bernstein, Wang, Azizzadenesheli, Anandkumar: signSGD. ICML 2018 (arXiv 1802.04434), majority vote.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from onebasin.core.settings import Positive
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each


class MajorityVote(AggregationRule):
    """w + rate * sign of the mean update.

    If clients send signs and count equally, this is a majority vote.
    rate: the size of the step in each value.
    """

    is_forwardable: ClassVar[bool] = True

    kind: Literal["majority-vote"] = "majority-vote"
    rate: Positive = 0.001

    def step(self, slots: Slots, mean: Mean) -> Slots:
        weights = slots["weights"]
        return {"weights": each(weights, lambda n: weights[n] + self.rate * torch.sign(mean.update[n]))}
