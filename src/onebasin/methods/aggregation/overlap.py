"""Average masks where clients keep the same weights; what no other client keeps stays personal.

Li, Sun, Zeng, Zhang, Li, Chen: FedMask. SenSys 2021 (doi 10.1145/3485730.3485929). A client's mask is of the scores
above 0. The server's tensors are signs: 1 and -1 where clients agree to keep or to drop a weight, 0 where each client
decides by itself.
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
    """Where two clients or more keep a weight: whether more than the share `share` of all do; the rest stays personal.

    Each client continues with a mask of its own. score: the magnitude of a score whose sign the server turned.
    """

    personal_models: ClassVar[bool] = True
    exchange: ClassVar[str] = "onebasin.federation.hooks.personal_masks:PersonalMasks"
    mask_form: ClassVar[str] = "sign"

    kind: Literal["overlap"] = "overlap"
    share: Fraction = 0.5
    score: Positive = 0.005

    def step(self, slots: Slots, mean: Mean) -> Slots:
        return {"weights": each(slots["weights"], lambda n: overlap(self, mean.update[n], mean.weight))}

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


def nothing_in_common(scores: Tensors) -> Tensors:
    """Return the signs before any two clients have trained."""
    return {name: torch.zeros_like(score) for name, score in scores.items()}


def overlap(combine: Overlap, kept: Tensor, clients: float) -> Tensor:
    """Return the signs on which masks agree. kept: the share of so many clients that keep each weight."""
    meet = kept * clients > 1.5  # two or more; shares are rounded
    return torch.where(meet, torch.where(kept > combine.share, 1.0, -1.0), 0.0)


def own_scores(combine: Overlap, common: Tensors, own: Tensors) -> Tensors:
    """Return the scores that a client goes on from: its own, turned where the common sign is another.

    A score that agrees stays as it is, with all that it has learned.
    """
    scores: Tensors = {}
    for name, score in own.items():
        signs = common[name]
        agrees = (signs == 0) | ((signs > 0) == (score > 0))
        scores[name] = torch.where(agrees, score, torch.where(signs > 0, combine.score, -combine.score))
    return scores
