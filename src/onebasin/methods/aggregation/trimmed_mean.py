"""Apply the mean of the clients' updates, value by value without the extremes.

Yin, Chen, Ramchandran, Bartlett: Byzantine-Robust Distributed Learning. ICML 2018 (arXiv 1803.01498), definition 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from onebasin.core.settings import Positive
from onebasin.methods.aggregation._ordered import mean_without_extremes
from onebasin.methods.aggregation_rule import AggregationRule, ClientModel, Mean, MergeContext, Merged, Slots, added


class TrimmedMean(AggregationRule):
    """w + rate * the mean of the updates, value by value without the shares `trim` of the smallest and the largest.

    All clients count equally, since an attacker could report any number of examples.
    trim: the share of the values that is left out at either end, rounded up to a whole number of clients.
    rate: the server's learning rate.
    """

    sees_each_model: ClassVar[bool] = True
    is_robust: ClassVar[bool] = True

    kind: Literal["trimmed-mean"] = "trimmed-mean"
    trim: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    rate: Positive = 1.0

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return added(slots, mean.update, self.rate)

    def minimum_replies(self, replies: int) -> int:
        return 2 * self._cut(replies) + 1

    def why_minimum(self, replies: int) -> str:
        return f"combine={self.kind!r}: trim={self.trim:g}, which cuts {self._cut(replies)} each way,"

    def merge(self, models: Sequence[ClientModel], context: MergeContext) -> Merged:
        self.require_replies(len(models))
        return Merged(mean_without_extremes([one.state for one in models], self._cut(len(models))))

    def _cut(self, replies: int) -> int:
        """Return the number of values that are left out at either end."""
        return math.ceil(self.trim * replies - 1e-9)
