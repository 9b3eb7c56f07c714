"""Repair of a merged model: its neurons get the mean statistics of the models that were merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from onebasin.alignment.merging import shares
from onebasin.alignment.repair import Statistics, Way, restore, statistics
from onebasin.core.clients import ClientId
from onebasin.core.layout import Tensors
from onebasin.methods.aggregation_rule import ClientModel


def repaired(
    model: nn.Module,
    merged: Tensors,
    models: Sequence[ClientModel],
    reported: Mapping[ClientId, Statistics],
    inputs: Tensor,
    way: Way,
) -> Tensors:
    """Return the merged state with its neurons' statistics restored.

    The targets are the weighted mean of the models' statistics. reported: those that clients sent, in the merged
    model's neuron order; the others are measured on the inputs [n, ...].
    """
    if way == "norm-reset":
        return restore(model, merged, {}, inputs, way)
    known = [reported[one.client] if one.client in reported else statistics(model, one.state, inputs) for one in models]
    targets: Statistics = {}
    for found, share in zip(known, shares(len(known), [one.weight for one in models]), strict=True):
        for name, value in found.items():
            targets[name] = targets.get(name, torch.zeros_like(value)) + share * value
    return restore(model, merged, targets, inputs, way)
