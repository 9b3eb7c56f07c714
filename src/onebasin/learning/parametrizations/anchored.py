"""Anchors: a part of each weight tensor stays at constants that all models of a run have in common.

Neurons that differ in what cannot be learned cannot change places, so that models from different starts meet in one
order. Li et al.: Improving Model Fusion by Training-time Neuron Alignment with Fixed Neuron Anchors (TNA-PFN). 2024
(arXiv 2402.01342); Lim et al.: The Empirical Impact of Neural Parameter Symmetries, or Lack Thereof. NeurIPS 2024
(arXiv 2405.20231), W-asymmetric networks.
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
    """A `fraction` of each layer's weights stays at constants from the run's seed, and is not sent.

    scale: the constants' standard deviation, in units of PyTorch's initial weights.
    """

    kind: Literal["anchored"] = "anchored"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.4
    scale: Positive = 1.0

    def apply(self, model: nn.Module, seed: int, common_seed: int) -> nn.Module:
        anchor(model, self.fraction, self.scale, seeded(common_seed, "anchors"))
        return model


class AnchoredWeight(nn.Module):
    """A weight from its free values [n], which are the parameter; the others are constants."""

    constants: Tensor
    free: Tensor

    def __init__(self, constants: Tensor, free: Tensor) -> None:
        super().__init__()
        self.register_buffer("constants", constants, persistent=False)
        self.register_buffer("free", free, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        whole = self.constants.flatten().index_copy(0, self.free, values).view_as(self.constants)
        return torch.empty_like(self.constants).copy_(whole)  # in the layout that convolutions were given

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the free values of a weight."""
        return weight.flatten()[self.free]


def anchor(model: nn.Module, fraction: float, scale: float, generator: torch.Generator) -> None:
    """Fix this fraction of every weight of the model's linear and convolution layers, at places drawn for each.

    Constants are normal, `scale` times as large as PyTorch's initial weights (deviation 1 / sqrt(3 fan-in)). All
    else is trained as it is. `ValueError` when there is no such layer, or two share a weight.
    """
    for layer in replaceable_layers(model, "anchors need"):
        shape = layer.weight.shape
        deviation = scale / math.sqrt(3 * layer.weight[0].numel())
        constants = deviation * torch.randn(shape, generator=generator)
        order = torch.randperm(shape.numel(), generator=generator)
        free = order[round(fraction * shape.numel()) :].sort().values
        register_parametrization(layer, "weight", AnchoredWeight(constants, free))
