"""The mean of the middle of each value's updates, over clients: what the median and the trimmed mean share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.core.layout import Tensors


def middle(states: Sequence[Tensors], cut: int, last: bool = False) -> Tensors:
    """Return the mean of each value but for the `cut` smallest and largest; of whole numbers the middle one.

    last: of whole numbers the largest.
    """
    return {name: _between([state[name] for state in states], cut, last) for name in states[0]}


def _between(values: Sequence[Tensor], cut: int, last: bool = False) -> Tensor:
    """The mean of what lies between the `cut` smallest and largest of each value, in float64 in a fixed order."""
    rows = torch.stack(list(values)).sort(dim=0).values
    kept = rows[cut : len(rows) - cut]
    if not rows.is_floating_point():
        return kept[-1 if last else len(kept) // 2].clone()
    total = torch.zeros_like(kept[0], dtype=torch.float64)
    for row in kept:
        total += row
    return (total / len(kept)).to(rows.dtype)
