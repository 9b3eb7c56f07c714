"""The velocity that Momentum and Nesterov share, in the slot `momentum`."""

from __future__ import annotations

from onebasin.core.layout import Tensors
from onebasin.methods.aggregation_rule import Mean, Slots, each, filled


def velocity_at_rest(weights: Tensors) -> Slots:
    """Return the slot before the first step: zeros."""
    return {"momentum": filled(weights, 0.0)}


def next_velocity(slots: Slots, mean: Mean, beta: float) -> Tensors:
    """Return beta v + mean update, by parameter."""
    momentum = slots["momentum"]
    return each(slots["weights"], lambda n: beta * momentum[n] + mean.update[n])
