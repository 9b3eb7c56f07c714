"""Fit a merged model to the clients' outputs on probe inputs, with the settings of `LeastSquares`."""

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
"""The powers from which ``combine.agreement="auto"`` chooses."""

BALANCE_INPUTS = 64
"""Number of probe inputs on which `balance` checks whether neurons can be rescaled."""


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
    """Return the state of a model that reproduces the clients' outputs on probe inputs.

    models: in one neuron order.
    targets, ridge, agreement: as in `LeastSquares`.
    balanced: rescale neurons afterwards.
    steps: of distillation afterwards.
    """
    model, inputs, sketches = context.model, context.inputs(), context.sketches
    states, weights = [one.state for one in models], [one.weight for one in models]
    outputs = [forward(model, state, inputs) for state in states]
    with_experts = targets == "experts"
    if with_experts:
        target_outputs = consult(outputs, [sketches[one.client] for one in models], inputs)
    else:
        weighted = zip(outputs, shares(len(states), weights), strict=True)
        target_outputs = torch.stack([output * share for output, share in weighted]).sum(0)
    anchor = max(range(len(states)), key=lambda index: (weights[index], -index))

    def fitted(power: float, selection: slice) -> Tensors:
        return least_squares(
            model,
            states,
            inputs[selection],
            weights,
            ridge=ridge,
            anchor=anchor if power else None,
            agreement=power,
            teach=target_outputs[selection] if with_experts else None,
            seed=context.seed,
        )

    power = agreement
    if power == "auto":
        candidates = {f"{each:g}": fitted(each, slice(0, None, 2)) for each in AGREEMENTS}
        power = float(choose(model, candidates, inputs[1::2], target_outputs[1::2])[0])
    merged = fitted(power, slice(None))
    if balanced:
        merged = balance(model, merged, inputs[:BALANCE_INPUTS], spec=context.spec())
    if steps:
        merged = distil(model, merged, inputs, target_outputs, steps, context.seed)
    return merged
