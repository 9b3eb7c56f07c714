"""Average the clients' masks over a backbone, and the updates of the parameters beside them."""

from __future__ import annotations

from typing import ClassVar, Literal

from onebasin.core.settings import Positive
from onebasin.learning.masks.layers import is_score
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each


class MeanMask(AggregationRule):
    """Scores from -`score` to `score`, linear in the share of clients that keep a weight; else w + mean update.

    So a weight is kept if more than half of the clients keep it.
    score: the largest magnitude of a score.
    """

    is_forwardable: ClassVar[bool] = True
    mask_form: ClassVar[str] = "backbone"

    kind: Literal["mean-mask"] = "mean-mask"
    score: Positive = 0.005

    def step(self, slots: Slots, mean: Mean) -> Slots:
        weights, update = slots["weights"], mean.update
        after = each(weights, lambda n: self.score * (2 * update[n] - 1) if is_score(n) else weights[n] + update[n])
        return {"weights": after}
