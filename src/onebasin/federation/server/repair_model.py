"""Repair of a merged model: its neurons get the mean statistics of the models that were merged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from onebasin.alignment.merging import shares
from onebasin.alignment.repair import Statistics, Way, restore, statistics
from onebasin.core.layout import Tensors
from onebasin.methods.aggregation_rule import ClientModel


def repaired(
    model: nn.Module,
    merged: Tensors,
    models: Sequence[ClientModel],
    reported: Sequence[tuple[float, Statistics]] | None,
    inputs: Tensor,
    way: Way,
) -> Tensors:
    """Return the merged state with its neurons' statistics restored.

    model: a workspace.
    models: the clients' models that were merged, in one neuron order.
    reported: weight and statistics of each client that sent statistics, in this order; None: measure them on `inputs`.
    inputs: probe inputs [n, ...].
    way: "repair", "rescale" or "norm-reset".
    """
    if way == "norm-reset":
        return restore(model, merged, {}, inputs, way)
    known = reported
    if known is None:
        known = [(one.weight, statistics(model, one.state, inputs)) for one in models]
    targets: Statistics = {}
    for (_, found), share in zip(known, shares(len(known), [weight for weight, _ in known]), strict=True):
        for name, value in found.items():
            targets[name] = targets.get(name, torch.zeros_like(value)) + share * value
    return restore(model, merged, targets, inputs, way)
