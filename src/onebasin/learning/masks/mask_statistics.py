"""Statistics of masks: the share of kept weights, and the entropy of stochastic masks, by layer."""

import math

import torch
from torch import Tensor

from onebasin.core.layout import Tensors
from onebasin.learning.masks.layers import SCORES, is_score


def kept_by_layer(parameters: Tensors, stochastic: bool) -> dict[str, dict[str, float]]:
    """Return statistics for each layer that has scores: `kept`, the share of scores above 0, and perhaps `entropy`.

    parameters: by name; those without scores are ignored.
    stochastic: scores are logits of probabilities; `entropy` is the mean entropy of a mask, in bits per score.
    """
    layers = {name.removesuffix(SCORES).rstrip("."): scores for name, scores in parameters.items() if is_score(name)}
    return {
        layer: {"kept": float((scores > 0).double().mean())} | ({"entropy": _entropy(scores)} if stochastic else {})
        for layer, scores in layers.items()
    }


def _entropy(logits: Tensor) -> float:
    """Return the mean entropy of Bernoulli draws with these logits, in bits."""
    probability = torch.sigmoid(logits.double())
    return float((torch.special.entr(probability) + torch.special.entr(1 - probability)).mean()) / math.log(2)
