"""Average the clients' masks; the mean is the probability with which each weight is kept next.

Isik, Pase, Gunduz, Weissman, Zorzi: Sparse Random Networks for Communication-Efficient Federated Learning (FedPM). ICLR
2023 (arXiv 2209.15328), section 3.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field

from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each


class BetaPosterior(AggregationRule):
    """The probability that a weight is kept: the mean of the clients' masks, clipped to [margin, 1 - margin].

    The weights of the global model are the logits of these probabilities.
    margin: distance of the probabilities from 0 and 1.
    """

    is_forwardable: ClassVar[bool] = True
    mask_form: ClassVar[str] = "probability"

    kind: Literal["beta-posterior"] = "beta-posterior"
    margin: Annotated[float, Field(gt=0, lt=0.5)] = 0.01

    def step(self, slots: Slots, mean: Mean) -> Slots:
        probability = each(slots["weights"], lambda n: mean.update[n].clamp(self.margin, 1 - self.margin))
        return {"weights": each(slots["weights"], lambda n: torch.logit(probability[n]))}
