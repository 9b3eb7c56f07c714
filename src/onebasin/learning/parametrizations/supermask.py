"""Supermasks: random weights that stay as they are, and trained scores that say which of them are kept.

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
from onebasin.learning.masks.layers import MaskedUnit, neutralise, replaceable_layers, scores_of
from onebasin.learning.masks.score_masks import MaskByChance, MaskOfHighest, MaskOfPositive
from onebasin.learning.parametrization import Parametrization


class Supermask(Parametrization):
    """Weights are random and stay fixed; a score decides whether each is kept.

    kept: each weight is kept with the probability sigmoid(score) (`by-chance`); or the share `density` of each layer's
    weights with the highest scores is (`highest`); or those whose score is above 0 are (`above-zero`), where `score` is
    the initial value. over: a score decides on one of the `weights`, or on all incoming weights of one of the `neurons`
    (filters); in the last layer, whose neurons are the classes, on one weight.
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
        supermask(model, self._masked, seeded(seed, "random weights"), self.over)
        return model

    def _masked(self, weights: Tensor, shape: tuple[int, ...]) -> nn.Module:
        """Return the module that keeps some of a layer's random weights, by scores of a shape."""
        if self.kept == "highest":
            return MaskOfHighest(weights, shape, self.density)
        if self.kept == "above-zero":
            return MaskOfPositive(weights, shape, self.score)
        return MaskByChance(weights, shape)


def supermask(
    model: nn.Module,
    masking: Callable[[Tensor, tuple[int, ...]], nn.Module],
    generator: torch.Generator,
    over: MaskedUnit = "weights",
) -> None:
    """Put scores in the place of every weight of the model's linear and convolution layers.

    masking: makes of a layer's weights, and the shape of its scores, what keeps some of them by these. over: what a
    score is of; the last layer's are of its weights, since its neurons are the classes. Weights become + or - the
    deviation of He et al. 2015; all other parameters (biases, normalisation) keep their neutral values and are no
    longer trained. `ValueError` when no layer can be masked, or not by its neurons, two share a weight, or parameters
    are left that are neither.
    """
    layers = replaceable_layers(model, "a supermask needs")
    for layer in layers:
        fan_in = layer.weight[0].numel()
        signs = torch.randint(0, 2, layer.weight.shape, generator=generator) * 2.0 - 1.0
        weights = signs * math.sqrt(2 / fan_in)
        shape = scores_of(layer, "weights" if layer is layers[-1] else over)
        with torch.no_grad():
            layer.weight.copy_(weights)
        register_parametrization(layer, "weight", masking(weights, shape))
    neutralise(model)
