"""Weights as fixed sparse combinations of the entries of a shorter mask, whose probabilities are trained.

Villani, Natale, Mallmann-Trenn: Trading-off Accuracy and Communication Cost in Federated Learning (Zampling). 2025
(arXiv 2503.14246): w = Q z, where Q is random and sparse, and z is a mask. If Q is diagonal, this is a supermask.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.seeds import generator as seeded
from onebasin.learning.masks.layers import fix_biases_and_scales, replaceable_layers
from onebasin.learning.masks.straight_through import draw_mask
from onebasin.learning.parametrization import Parametrization


class SparseCombination(Parametrization):
    """Each layer's weights are fixed sparse combinations of a mask with `compression` times fewer entries.

    Each weight is the sum of `degree` entries of the mask times random factors; a score gives the probability of each
    entry of the mask.
    compression: number of weights per score.
    degree: number of entries of the mask per weight.
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

    An entry of the mask is 1 with probability sigmoid(score). In training mode a mask is drawn in each forward pass,
    and the gradient passes straight through to the probabilities; in evaluation mode the probabilities replace the
    mask.
    factors: [weights, degree].
    indices: of the entries of the mask, int64 [weights, degree].
    """

    factors: Tensor
    indices: Tensor

    def __init__(self, shape: torch.Size, size: int, degree: int, generator: torch.Generator) -> None:
        """Draw factors and indices; with probabilities of 1/2, weights have the variance of He et al. 2015.

        shape: of the weights. size: of the mask.
        """
        super().__init__()
        self._shape, self._size = shape, size
        deviation = math.sqrt(4 / (degree * shape[1:].numel()))
        factors = deviation * torch.randn(shape.numel(), degree, generator=generator)
        indices = torch.randint(0, size, (shape.numel(), degree), generator=generator)
        self.register_buffer("factors", factors, persistent=False)
        self.register_buffer("indices", indices, persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        mask = torch.sigmoid(scores)
        if self.training:
            mask = mask + (draw_mask(mask).to(mask.dtype) - mask.detach())
        return (self.factors * mask[self.indices]).sum(1).view(self._shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return zeros: every probability is 1/2."""
        return weight.new_zeros(self._size)


def combine_sparsely(model: nn.Module, compression: float, degree: int, generator: torch.Generator) -> None:
    """Replace the weights of each linear and convolution layer by `compression` times fewer scores, in place.

    Biases are fixed at 0 and the scales of normalisations at 1.
    compression, degree: as in `SparseCombination`. generator: draws the factors and the indices.
    Raises ValueError if there is no such layer, if two modules share a weight, or if other parameters are left.
    """
    for layer in replaceable_layers(model, "sparse combinations need"):
        shape = layer.weight.shape
        size = math.ceil(shape.numel() / compression)
        register_parametrization(layer, "weight", SparselyCombinedWeight(shape, size, degree, generator))
    fix_biases_and_scales(model)
