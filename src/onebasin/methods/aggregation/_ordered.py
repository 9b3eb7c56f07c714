"""Means over clients without the extremes of each value, for the median, the trimmed mean and Krum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.core.layout import Tensors


def mean_without_extremes(states: Sequence[Tensors], cut: int, largest: bool = False) -> Tensors:
    """Return the mean of each value over the states, without the `cut` smallest and the `cut` largest.

    Of integers and booleans, the middle one is returned instead of the mean.
    states: of one layout. largest: of integers and booleans, return the largest one.
    """
    return {name: _mean_of_middle([state[name] for state in states], cut, largest) for name in states[0]}


def _mean_of_middle(values: Sequence[Tensor], cut: int, largest: bool) -> Tensor:
    """Return the mean of one tensor of each state; sums are in float64 and in a fixed order."""
    rows = torch.stack(list(values)).sort(dim=0).values
    kept = rows[cut : len(rows) - cut]
    if not rows.is_floating_point():
        return kept[-1 if largest else len(kept) // 2].clone()
    total = torch.zeros_like(kept[0], dtype=torch.float64)
    for row in kept:
        total += row
    return (total / len(kept)).to(rows.dtype)
