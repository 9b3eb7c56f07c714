"""Supermasks: random weights that stay as they are, and trained scores that say which of them are kept.

Zhou et al.: Deconstructing Lottery Tickets. NeurIPS 2019 (arXiv 1905.01067); Ramanujan et al.: What's Hidden in a
Randomly Weighted Neural Network? CVPR 2020 (arXiv 1911.13299); Isik et al.: FedPM. ICLR 2023 (arXiv 2209.15328).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

Maskable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

SCORES = "parametrizations.weight.original"
"""What the names of scores end with, in the place of `weight`."""


class MaskByChance(nn.Module):
    """Keeps each weight with the chance sigmoid(score): anew in each step of training, else the likelier of both.

    The gradient passes through the draw as if it were the chance.
    """

    weights: Tensor

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, scores: Tensor) -> Tensor:
        if not self.training:
            return self.weights * (scores > 0)
        chance = torch.sigmoid(scores)
        drawn = torch.bernoulli(chance.detach())
        return self.weights * (drawn + chance - chance.detach())

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return scores that leave everything open."""
        return torch.zeros_like(weights)


class MaskOfHighest(nn.Module):
    """Keeps the weights with the highest scores: a share of a layer's. The gradient passes through the choice."""

    weights: Tensor

    def __init__(self, weights: Tensor, density: float) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)
        self._dropped = weights.numel() - max(1, round(density * weights.numel()))

    def forward(self, scores: Tensor) -> Tensor:
        flat = scores.detach().flatten()
        least = flat.kthvalue(self._dropped + 1).values
        kept = flat > least
        missing = len(flat) - self._dropped - int(kept.sum())
        kept[(flat == least).nonzero().flatten()[-missing:]] = True  # of equal scores, the last ones are kept
        mask = kept.to(scores.dtype)
        return self.weights * (mask.view_as(scores) + scores - scores.detach())

    def right_inverse(self, weights: Tensor) -> Tensor:
        """Return scores in the order of magnitudes, so that the largest weights are kept at first."""
        return weights.abs()


def supermask(model: nn.Module, masked: Callable[[Tensor], nn.Module], generator: torch.Generator) -> None:
    """Put scores in the place of every weight of the model's linear and convolution layers.

    masked: makes of a layer's weights what keeps some of them by their scores. Weights become + or - the deviation of
    He et al. 2015; all other parameters (biases, normalisation) keep their neutral values and are no longer trained.
    `ValueError` when no layer can be masked, two share a weight, or parameters are left that are neither.
    """
    for layer in replaceable_layers(model, "a supermask needs"):
        fan_in = layer.weight[0].numel()
        signs = torch.randint(0, 2, layer.weight.shape, generator=generator) * 2.0 - 1.0
        weights = signs * math.sqrt(2 / fan_in)
        with torch.no_grad():
            layer.weight.copy_(weights)
        register_parametrization(layer, "weight", masked(weights))
    neutralise(model)


def replaceable_layers(model: nn.Module, needing: str) -> list[Maskable]:
    """Return the linear and convolution layers, whose weights something can take the place of.

    needing: who needs them, for the `ValueError` when there is none; another says which of them share a weight.
    """
    layers = [module for module in model.modules() if isinstance(module, Maskable)]
    if not layers:
        raise ValueError(f"{needing} linear or convolution layers; the model has none")
    refuse_tied(model, layers)
    return layers


def refuse_tied(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Raise `ValueError` for a layer whose weight is another module's, too: both would get what takes its place."""
    owned = [each for module in model.modules() for each in module.parameters(recurse=False)]
    holders = Counter(map(id, owned))
    for layer in layers:
        if holders[id(layer.weight)] > 1:
            named = model.named_parameters(remove_duplicate=False)
            names = [name for name, parameter in named if parameter is layer.weight]
            raise ValueError(
                f"{' and '.join(names)} are one tensor; a weight that is to be replaced must be one layer's"
            )


def neutralise(model: nn.Module) -> None:
    """Make constants of biases (0) and scales (1); `ValueError` for parameters that are neither, nor scores."""
    for name, parameter in model.named_parameters():
        if "parametrizations" in name.split("."):
            continue
        if parameter.dim() != 1:
            raise ValueError(f"{name} {list(parameter.shape)} belongs to no layer that can be masked")
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        parameter.requires_grad_(False)
