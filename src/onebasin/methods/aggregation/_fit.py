"""Fit a merged model to the clients' outputs on probe inputs, as the settings of `LeastSquares` ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from onebasin.alignment.distillation import distil
from onebasin.alignment.ensemble_targets import consult
from onebasin.alignment.forward_hooks import forward
from onebasin.alignment.least_squares import least_squares
from onebasin.alignment.merging import shares
from onebasin.alignment.model_selection import choose
from onebasin.alignment.rescaling import balance
from onebasin.core.layout import Tensors
from onebasin.methods.aggregation_rule import ClientModel, MergeContext

AGREEMENTS = (0.0, 2.0, 8.0)
"""The powers among which combine.agreement="auto" chooses."""

BALANCED_ON = 64
"""Probe inputs on which `balance` checks whether neurons can be rescaled."""


def fitted_model(
    models: Sequence[ClientModel],
    context: MergeContext,
    *,
    targets: Literal["mean", "experts"],
    ridge: float,
    agreement: float | Literal["auto"],
    balanced: bool,
    steps: int,
) -> Tensors:
    """Return the state that reproduces the clients' outputs on probe inputs; models: in one neuron order.

    balanced: rescale neurons afterwards. steps: of distillation afterwards. The others: see `LeastSquares`.
    """
    model, inputs, sketches = context.model, context.inputs(), context.sketches
    states, weights = [one.state for one in models], [one.weight for one in models]
    outputs = [forward(model, state, inputs) for state in states]
    taught = targets == "experts"
    if taught:
        together = consult(outputs, [sketches[one.client] for one in models], inputs)
    else:
        parts = zip(outputs, shares(len(states), weights), strict=True)
        together = torch.stack([output * part for output, part in parts]).sum(0)
    anchor = max(range(len(states)), key=lambda index: (weights[index], -index))

    def fitted(power: float, some: slice) -> Tensors:
        return least_squares(
            model,
            states,
            inputs[some],
            weights,
            ridge=ridge,
            anchor=anchor if power else None,
            agreement=power,
            teach=together[some] if taught else None,
            seed=context.seed,
        )

    strength = agreement
    if strength == "auto":
        candidates = {f"{power:g}": fitted(power, slice(0, None, 2)) for power in AGREEMENTS}
        strength = float(choose(model, candidates, inputs[1::2], together[1::2])[0])
    merged = fitted(strength, slice(None))
    if balanced:
        merged = balance(model, merged, inputs[:BALANCED_ON], spec=context.spec())
    if steps:
        merged = distil(model, merged, inputs, together, steps, context.seed)
    return merged
