"""Add the mean update to the weights.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas: Communication-Efficient Learning of Deep Networks from Decentralized
Data. AISTATS 2017 (arXiv 1602.05629), algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from onebasin.core.settings import Positive
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, added


class Average(AggregationRule):
    """w + rate * mean update.

    rate: 1 for FedAvg.
    """

    is_forwardable: ClassVar[bool] = True

    kind: Literal["average"] = "average"
    rate: Positive = 1.0

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return added(slots, mean.update, self.rate)
