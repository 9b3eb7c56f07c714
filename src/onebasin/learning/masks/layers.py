"""The layers whose weights a mask, factors or anchors can replace, and the names of their scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import nn

MaskedUnit = Literal["weights", "neurons"]
"""What one score decides on: one weight, or all incoming weights of a neuron (a filter)."""

Maskable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

SCORES = "parametrizations.weight.original"
"""What the names of scores end with, in the place of `weight`."""


def is_score(name: str) -> bool:
    """Whether a parameter of this name is a layer's scores."""
    return name.endswith(SCORES)


def scores_of(layer: Maskable, over: MaskedUnit) -> tuple[int, ...]:
    """Return the shape of a layer's scores; `ValueError` for neurons along another axis than the first."""
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
    """Return the shape of one value a neuron, or filter, of weights [out, ...]: [out, 1, ...], which broadcasts."""
    return (*shape[:1], *(1 for _ in shape[1:]))


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
