"""Supermasks: random weights are fixed, and trained scores decide which of them are kept.

Zhou et al.: Deconstructing Lottery Tickets. NeurIPS 2019 (arXiv 1905.01067); Ramanujan et al.: What's Hidden in a
Randomly Weighted Neural Network? CVPR 2020 (arXiv 1911.13299); Isik et al.: FedPM. ICLR 2023 (arXiv 2209.15328).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.seeds import generator as seeded
from onebasin.core.settings import Positive
from onebasin.learning.masks.layers import MaskedUnit, fix_biases_and_scales, replaceable_layers, score_shape
from onebasin.learning.masks.score_masks import HighestScoresMask, PositiveScoresMask, StochasticMask
from onebasin.learning.parametrization import Parametrization


class Supermask(Parametrization):
    """Weights are random and stay fixed; a score decides whether each is kept.

    kept: which weights are kept. `by-chance`: each with probability sigmoid(score); `highest`: a fixed share of each
    layer's weights, those with the highest scores; `above-zero`: those whose score is above 0.
    density: the share of kept weights, for `highest`.
    over: whether a score decides on one of the `weights`, or on all incoming weights of one of the `neurons` (filters).
    In the last layer, whose neurons are the classes, it decides on one weight.
    score: the initial score of each weight, for `above-zero`.
    """

    kind: Literal["supermask"] = "supermask"
    kept: Literal["by-chance", "highest", "above-zero"] = "by-chance"
    density: Annotated[float, Field(gt=0, le=1)] = 0.5
    over: MaskedUnit = "weights"
    score: Positive = 0.005

    @property
    def mask_form(self) -> str:
        return "sign" if self.kept == "above-zero" else "probability"

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        supermask(model, self._mask, seeded(seed, "random weights"), self.over)
        return model

    def _mask(self, weights: Tensor, shape: tuple[int, ...]) -> nn.Module:
        """Return the module that masks a layer's random weights by scores of a shape."""
        if self.kept == "highest":
            return HighestScoresMask(weights, shape, self.density)
        if self.kept == "above-zero":
            return PositiveScoresMask(weights, shape, self.score)
        return StochasticMask(weights, shape)


def supermask(
    model: nn.Module,
    make_mask: Callable[[Tensor, tuple[int, ...]], nn.Module],
    generator: torch.Generator,
    over: MaskedUnit = "weights",
) -> None:
    """Replace the weights of each linear and convolution layer by random ones and trained scores, in place.

    Random weights are plus or minus the standard deviation of He et al. 2015, sqrt(2 / fan-in). Biases are fixed at 0
    and the scales of normalisations at 1.
    make_mask: returns a `ScoreMask` for a layer's weights and the shape of its scores.
    generator: draws the signs.
    over: as in `Supermask`.
    Raises ValueError if no layer can be masked, if a layer's neurons cannot be masked, if two modules share a weight,
    or if other parameters are left.
    """
    layers = replaceable_layers(model, "a supermask needs")
    for layer in layers:
        fan_in = layer.weight[0].numel()
        signs = torch.randint(0, 2, layer.weight.shape, generator=generator) * 2.0 - 1.0
        weights = signs * math.sqrt(2 / fan_in)
        shape = score_shape(layer, "weights" if layer is layers[-1] else over)
        with torch.no_grad():
            layer.weight.copy_(weights)
        register_parametrization(layer, "weight", make_mask(weights, shape))
    fix_biases_and_scales(model)
