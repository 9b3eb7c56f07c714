"""Average the clients' masks where at least two of them keep a weight; elsewhere each client keeps its own mask.

Li, Sun, Zeng, Zhang, Li, Chen: FedMask. SenSys 2021 (doi 10.1145/3485730.3485929). A client's mask keeps the weights
whose scores are above 0. The server's tensors are signs: 1 for a weight that all keep, -1 for one that all drop, 0 for
one on which each client decides by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from onebasin.codecs.chain import canonical, parse_chain
from onebasin.core.layout import Tensors
from onebasin.core.settings import Fraction, Positive
from onebasin.methods.aggregation_rule import AggregationRule, Mean, Slots, each

SIGNS = canonical(parse_chain("ternary"))
"""The downlink that encodes -1, 0 and 1 exactly."""


class Overlap(AggregationRule):
    """Weights that two clients or more keep are kept if more than `share` of all do; the rest stays personal.

    Each client has its own mask.
    share: the share of the round's clients above which a weight is kept.
    score: the magnitude of a client's score after the server changed its sign.
    """

    personal_models: ClassVar[bool] = True
    exchange: ClassVar[str] = "onebasin.federation.hooks.personal_masks:PersonalMasks"
    mask_form: ClassVar[str] = "sign"

    kind: Literal["overlap"] = "overlap"
    share: Fraction = 0.5
    score: Positive = 0.005

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return {"weights": each(slots["weights"], lambda n: agreed_signs(self, mean.update[n], mean.weight))}

    def needs(self, method: Any) -> Iterator[str]:
        if method.federated and (method.start != "shared-seed" or method.downlink != SIGNS):
            yield (
                f"combine='overlap' tells of weights that all know, by their signs: start='shared-seed' and downlink="
                f"'ternary', not {method.start!r} and {method.downlink!r}"
            )

    def run_needs(self, config: Any) -> Iterator[str]:
        if config.federation.weighting != "uniform":
            yield (
                "method.combine='overlap' counts the clients that keep a weight: use federation.weighting='uniform', "
                f"not {config.federation.weighting!r}"
            )


def undecided_signs(scores: Tensors) -> Tensors:
    """Return the signs before the first round: 0 for every weight."""
    return {name: torch.zeros_like(score) for name, score in scores.items()}


def agreed_signs(rule: Overlap, kept: Tensor, clients: float) -> Tensor:
    """Return the signs of one parameter that the clients' masks lead to.

    kept: for each weight the share of clients that keep it. clients: their number.
    """
    overlap = kept * clients > 1.5  # two clients or more; shares are rounded
    return torch.where(overlap, torch.where(kept > rule.share, 1.0, -1.0), 0.0)


def personal_scores(rule: Overlap, signs: Tensors, own: Tensors) -> Tensors:
    """Return the scores from which a client continues: its own, except where the server's sign is another.

    signs: the server's. own: the client's scores; one whose sign agrees is unchanged.
    """
    scores: Tensors = {}
    for name, score in own.items():
        sign = signs[name]
        agrees = (sign == 0) | ((sign > 0) == (score > 0))
        scores[name] = torch.where(agrees, score, torch.where(sign > 0, rule.score, -rule.score))
    return scores
