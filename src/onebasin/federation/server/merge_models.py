"""One model from the whole models of several clients, with probes: by least squares, and repaired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from onebasin.alignment.distillation import distil
from onebasin.alignment.ensemble_targets import consult
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.merging import shares
from onebasin.alignment.model_selection import choose
from onebasin.alignment.repair import Statistics, Way, restore, statistics
from onebasin.alignment.rescaling import balance
from onebasin.alignment.sketches import Sketch
from onebasin.core.layout import Tensors
from onebasin.federation.engines.engine import ClientId
from onebasin.federation.server.aggregation_buffer import Contribution
from onebasin.methods.settings import LeastSquares
from onebasin.symmetry.spec import PermutationSpec

AGREEMENTS = (0.0, 2.0, 8.0)
"""The powers among which combine.agreement="auto" chooses."""

BALANCED_ON = 64
"""Probes by which it is seen whether neurons can be rescaled."""


def by_least_squares(
    model: nn.Module,
    combine: LeastSquares,
    contributions: Sequence[Contribution],
    inputs: Tensor,
    sketches: Mapping[ClientId, Sketch],
    spec: PermutationSpec | None,
    seed: int,
) -> Tensors:
    """Return the state that reproduces what the clients say on probes; contributions: models in one neuron order.

    spec: the model's symmetries, by which neurons are balanced; None where they are not to be.
    """
    states, weights = [one.state for one in contributions], [one.weight for one in contributions]
    outputs = [forward(model, state, inputs) for state in states]
    taught = combine.targets == "experts"
    if taught:
        together = consult(outputs, [sketches[one.client] for one in contributions], inputs)
    else:
        parts = zip(outputs, shares(len(states), weights), strict=True)
        together = torch.stack([output * part for output, part in parts]).sum(0)
    anchor = max(range(len(states)), key=lambda index: (weights[index], -index))

    def fitted(agreement: float, some: slice) -> Tensors:
        return least_squares(
            model,
            states,
            inputs[some],
            weights,
            ridge=combine.ridge,
            anchor=anchor if agreement else None,
            agreement=agreement,
            teach=together[some] if taught else None,
            seed=seed,
        )

    strength = combine.agreement
    if strength == "auto":
        candidates = {f"{power:g}": fitted(power, slice(0, None, 2)) for power in AGREEMENTS}
        strength = float(choose(model, candidates, inputs[1::2], together[1::2])[0])
    merged = fitted(strength, slice(None))
    if spec is not None:
        merged = balance(model, merged, inputs[:BALANCED_ON], spec=spec)
    if combine.distil:
        merged = distil(model, merged, inputs, together, combine.distil, seed)
    return merged


def repaired(
    model: nn.Module,
    merged: Tensors,
    contributions: Sequence[Contribution],
    told: Sequence[tuple[float, Statistics]] | None,
    inputs: Tensor,
    way: Way,
) -> Tensors:
    """Return the merged state with its neurons' statistics restored.

    told: the clients' own statistics with their weights, in the merged model's order; None: measured on the inputs.
    """
    if way == "norm-reset":
        return restore(model, merged, {}, inputs, way)
    known = told
    if known is None:
        known = [(one.weight, statistics(model, one.state, inputs)) for one in contributions]
    targets: Statistics = {}
    for (_, found), share in zip(known, shares(len(known), [weight for weight, _ in known]), strict=True):
        for name, value in found.items():
            targets[name] = targets.get(name, torch.zeros_like(value)) + share * value
    return restore(model, merged, targets, inputs, way)
