"""Anchors: a part of each weight tensor is fixed to constants that all models of a run share.

Neurons whose fixed weights differ cannot be permuted without a change of the function, so models from different
initialisations get the same neuron order in training.

Li et al.: Improving Model Fusion by Training-time Neuron Alignment with Fixed Neuron Anchors (TNA-PFN). 2024 (arXiv
2402.01342); Lim et al.: The Empirical Impact of Neural Parameter Symmetries, or Lack Thereof. NeurIPS 2024 (arXiv
2405.20231), W-asymmetric networks.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from onebasin.core.seeds import generator as seeded
from onebasin.core.settings import Positive
from onebasin.learning.masks.layers import replaceable_layers
from onebasin.learning.parametrization import Parametrization


class Anchored(Parametrization):
    """A part of each layer's weights is fixed to constants from the run's seed, and is not sent.

    fraction: the share of each layer's weights that is fixed.
    scale: standard deviation of the constants, in units of that of PyTorch's initial weights.
    """

    kind: Literal["anchored"] = "anchored"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.4
    scale: Positive = 1.0

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        anchor(model, self.fraction, self.scale, seeded(common_seed, "anchors"))
        return model


class AnchoredWeight(nn.Module):
    """A weight tensor of which some values are trained (the parameter, [n]) and the others are constants.

    constants: in the shape of the weight.
    trained: indices [n] of the trained values in the flattened weight.
    """

    constants: Tensor
    trained: Tensor

    def __init__(self, constants: Tensor, trained: Tensor) -> None:
        super().__init__()
        self.register_buffer("constants", constants, persistent=False)
        self.register_buffer("trained", trained, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        weight = self.constants.flatten().index_copy(0, self.trained, values).view_as(self.constants)
        return torch.empty_like(self.constants).copy_(weight)  # in the memory layout of the constants

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the values of a weight that are trained."""
        return weight.flatten()[self.trained]


def anchor(model: nn.Module, fraction: float, scale: float, generator: torch.Generator) -> None:
    """Fix a fraction of the weights of each linear and convolution layer, at random positions, to random constants.

    All other values are trained. Constants are normal with `scale` times the standard deviation of PyTorch's initial
    weights, 1 / sqrt(3 fan-in).
    generator: draws the constants and the positions.
    Raises ValueError if there is no such layer, or if two modules share a weight.
    """
    for layer in replaceable_layers(model, "anchors need"):
        shape = layer.weight.shape
        deviation = scale / math.sqrt(3 * layer.weight[0].numel())
        constants = deviation * torch.randn(shape, generator=generator)
        order = torch.randperm(shape.numel(), generator=generator)
        trained = order[round(fraction * shape.numel()) :].sort().values
        register_parametrization(layer, "weight", AnchoredWeight(constants, trained))
