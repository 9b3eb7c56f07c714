"""Apply the median of the clients' updates, value by value.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning. ICML 2018 (arXiv 1803.01498), definition 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from onebasin.core.settings import Positive
from onebasin.methods.aggregation._ordered import mean_without_extremes
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, Mean, MergeContext, Merged, Slots, added


class Median(AggregationRule):
    """w + rate * the median of the updates, value by value.

    All clients count equally, since an attacker could report any number of examples.
    rate: the server's learning rate.
    """

    sees_each_model: ClassVar[bool] = True
    is_robust: ClassVar[bool] = True

    kind: Literal["median"] = "median"
    rate: Positive = 1.0

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return added(slots, mean.update, self.rate)

    def minimum_replies(self, replies: int) -> int:
        return 3

    def why_minimum(self, replies: int) -> str:
        return f"combine={self.kind!r}: a median"

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        self.require_replies(len(models))
        return Merged(mean_without_extremes([one.state for one in models], (len(models) - 1) // 2))
