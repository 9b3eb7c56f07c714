"""Weights as fixed sparse combinations of a few zeros and ones, each of which is one by a trained chance.

Villani, Natale, Mallmann-Trenn: Trading-off Accuracy and Communication Cost in Federated Learning (Zampling). 2025
(arXiv 2503.14246): w = Q z, Q random and sparse, z a mask. Where Q is diagonal and square, it is a supermask.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.seeds import generator as seeded
from onebasin.learning.masks.layers import neutralise, replaceable_layers
from onebasin.learning.masks.straight_through import drawn
from onebasin.learning.parametrization import Parametrization


class SparseCombination(Parametrization):
    """Each layer's weights are fixed sparse combinations of a mask with `compression` times fewer entries.

    Each weight is the sum of `degree` entries of the mask times random factors; a score gives the probability of each
    entry of the mask.
    """

    kind: Literal["sparse-combination"] = "sparse-combination"
    compression: Annotated[float, Field(ge=1, le=1e6)] = 8.0
    degree: Annotated[int, Field(ge=1, le=64)] = 4

    @property
    def mask_form(self) -> str:
        return "probability"

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        combine_sparsely(model, self.compression, self.degree, seeded(seed, "combinations"))
        return model


class SparselyCombinedWeight(nn.Module):
    """A layer's weights, each the sum of `degree` entries of a mask times fixed factors.

    The mask is drawn anew in each step of training, with the chances sigmoid(score); else chances stand for it. The
    gradient passes through the draw as if it were the chance.
    """

    factors: Tensor
    places: Tensor

    def __init__(self, shape: torch.Size, size: int, degree: int, generator: torch.Generator) -> None:
        """size: of the mask. Weights whose mask is drawn with chances of 1/2 have the variance of He et al. 2015."""
        super().__init__()
        self._shape, self._size = shape, size
        deviation = math.sqrt(4 / (degree * shape[1:].numel()))
        factors = deviation * torch.randn(shape.numel(), degree, generator=generator)
        places = torch.randint(0, size, (shape.numel(), degree), generator=generator)
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        mask = torch.sigmoid(scores)
        if self.training:
            mask = mask + (drawn(mask).to(mask.dtype) - mask.detach())
        return (self.factors * mask[self.places]).sum(1).view(self._shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return scores that leave everything open."""
        return weight.new_zeros(self._size)


def combine_sparsely(model: nn.Module, compression: float, degree: int, generator: torch.Generator) -> None:
    """Put scores in the place of the weights of linear and convolution layers: of each, `compression` times fewer.

    All other parameters (biases, normalisation) keep their neutral values and are no longer trained. `ValueError` when
    there is no such layer, two share a weight, or parameters are left that are neither.
    """
    for layer in replaceable_layers(model, "sparse combinations need"):
        shape = layer.weight.shape
        size = math.ceil(shape.numel() / compression)
        register_parametrization(layer, "weight", SparselyCombinedWeight(shape, size, degree, generator))
    neutralise(model)
