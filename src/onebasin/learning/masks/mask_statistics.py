"""What masks keep, layer by layer, and how far they are decided."""

import math

import torch
from torch import Tensor

from onebasin.core.layout import Tensors
from onebasin.learning.masks.layers import SCORES, is_score


def kept_by_layer(parameters: Tensors, by_chance: bool) -> dict[str, dict[str, float]]:
    """Return, for each layer with scores, the share of them above 0, which are kept; {} where there are no scores.

    by_chance: scores are the logits of chances; then also the mean entropy of a draw, in bits a weight.
    """
    layers = {name.removesuffix(SCORES).rstrip("."): scores for name, scores in parameters.items() if is_score(name)}
    return {
        layer: {"kept": float((scores > 0).double().mean())} | ({"entropy": _entropy(scores)} if by_chance else {})
        for layer, scores in layers.items()
    }


def _entropy(logits: Tensor) -> float:
    """The mean entropy of draws with these chances' logits, in bits."""
    chance = torch.sigmoid(logits.double())
    return float((torch.special.entr(chance) + torch.special.entr(1 - chance)).mean()) / math.log(2)
