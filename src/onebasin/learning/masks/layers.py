"""Layers whose weights can be masked or replaced, and the names and shapes of their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import nn

MaskedUnit = Literal["weights", "neurons"]
"""The unit that one score keeps or drops: one weight, or all incoming weights of a neuron (a filter)."""

Maskable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

SCORES = "parametrizations.weight.original"
"""The end of the names of scores, in the place of `weight`."""


def is_score(name: str) -> bool:
    """Return whether a parameter of this name has the scores of a layer."""
    return name.endswith(SCORES)


def score_shape(layer: Maskable, over: MaskedUnit) -> tuple[int, ...]:
    """Return the shape of a layer's scores, which broadcasts over its weights.

    Raises ValueError for scores of neurons if the first axis of the weights is not that of the neurons.
    """
    shape = tuple(layer.weight.shape)
    if over == "weights":
        return shape
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        raise ValueError(
            f"over='neurons' masks what a layer puts out, the first axis of its weights; a {type(layer).__name__}'s "
            f"{list(shape)} begin with what comes in: use over='weights'"
        )
    return by_neurons(shape)


def by_neurons(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape [out, 1, ...] of one value per neuron, or filter, of weights [out, ...]."""
    return (*shape[:1], *(1 for _ in shape[1:]))


def replaceable_layers(model: nn.Module, subject: str) -> list[Maskable]:
    """Return the linear and convolution layers of a model, whose weights can be replaced.

    subject: the beginning of the error message, such as "anchors need".
    Raises ValueError if there are none, or if two modules share a weight.
    """
    layers = [module for module in model.modules() if isinstance(module, Maskable)]
    if not layers:
        raise ValueError(f"{subject} linear or convolution layers; the model has none")
    require_untied(model, layers)
    return layers


def require_untied(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """Raise ValueError if a layer shares its weight with another module, in which it would be replaced, too."""
    owned = [parameter for module in model.modules() for parameter in module.parameters(recurse=False)]
    owners = Counter(map(id, owned))
    for layer in layers:
        if owners[id(layer.weight)] > 1:
            named = model.named_parameters(remove_duplicate=False)
            names = [name for name, parameter in named if parameter is layer.weight]
            raise ValueError(
                f"{' and '.join(names)} are one tensor; a weight that is to be replaced must be one layer's"
            )


def fix_biases_and_scales(model: nn.Module) -> None:
    """Fix all biases at 0 and the scales of normalisations at 1, so that only parametrized weights are trained.

    Raises ValueError if another parameter has more than one dimension: it belongs to no layer that can be masked.
    """
    for name, parameter in model.named_parameters():
        if "parametrizations" in name.split("."):
            continue
        if parameter.dim() != 1:
            raise ValueError(f"{name} {list(parameter.shape)} belongs to no layer that can be masked")
        nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)
        parameter.requires_grad_(False)
