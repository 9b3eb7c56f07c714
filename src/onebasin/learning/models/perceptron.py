"""Multi-layer perceptrons on flattened inputs."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from onebasin.learning.models.options import ModelError, one_of, positive


def mlp(shape: Sequence[int], classes: int, *, hidden: Sequence[int] = (64,), norm: str = "none") -> nn.Module:
    """Multi-layer perceptron: Linear-[BatchNorm-]ReLU per hidden layer, then a linear layer.

    Inputs of any shape are flattened.
    hidden: sizes of the hidden layers; () is logistic regression.
    norm: none | batch.
    Raises ModelError for an option out of range.
    """
    one_of("norm", norm, ("none", "batch"))
    if isinstance(hidden, str) or not isinstance(hidden, Sequence):
        raise ModelError(f"hidden: {hidden!r}; expected a list of layer sizes, such as [64]")
    width = math.prod(shape)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for index, size in enumerate(hidden, start=1):
        layers[f"fc{index}"] = nn.Linear(width, positive("hidden", size))
        if norm == "batch":
            layers[f"norm{index}"] = nn.BatchNorm1d(size)
        layers[f"relu{index}"] = nn.ReLU()
        width = size
    layers[f"fc{len(hidden) + 1}"] = nn.Linear(width, classes)
    return nn.Sequential(layers)
