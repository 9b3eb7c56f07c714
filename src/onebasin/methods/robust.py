"""One model from those of several clients, of whom some may be broken or hostile: trimmed means, medians, Krum.

These look at all replies of a round at once, so the server holds as many models as clients answered. All clients count
alike: an attacker could report any number of examples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onebasin.core.layout import Tensors
from onebasin.methods.settings import Krum, Median, Robust, TrimmedMean


class TooFewReplies(ValueError):
    """Fewer replies than a robust combination needs to hold what it promises."""


def combine_robustly(combine: Robust, states: Sequence[Tensors]) -> tuple[Tensors, list[int]]:
    """Return one state from those of the clients, and which of them were left out as a whole.

    Values that are whole numbers take the middle one, or, after Krum, the largest. `TooFewReplies`.
    """
    require_replies(combine, len(states))
    if not isinstance(combine, Krum):
        cut = _cut(combine, len(states))
        return {name: _between([state[name] for state in states], cut) for name in states[0]}, []
    scores = krum_scores(squared_distances(states), combine.byzantine)
    kept = sorted(sorted(range(len(states)), key=lambda index: (scores[index], index))[: combine.keep])
    chosen = [states[index] for index in kept]
    left_out = [index for index in range(len(states)) if index not in kept]
    return {name: _between([state[name] for state in chosen], 0, last=True) for name in states[0]}, left_out


def require_replies(combine: Robust, count: int) -> None:
    """Raise `TooFewReplies` where a combination cannot do with so many."""
    if isinstance(combine, Krum):
        least, what = max(2 * combine.byzantine + 3, combine.byzantine + combine.keep), f"byzantine={combine.byzantine}"
        what += f" and keep={combine.keep}"
    elif isinstance(combine, TrimmedMean):
        least, what = (
            2 * _cut(combine, count) + 1,
            f"trim={combine.trim:g}, which cuts {_cut(combine, count)} each way,",
        )
    else:
        least, what = 3, "a median"
    if count < least:
        raise TooFewReplies(f"combine={combine.kind!r}: {what} needs {least} replies or more; there are {count}")


def squared_distances(states: Sequence[Tensors]) -> Tensor:
    """Return how far states are from each other, over all their floats: float64 [n, n], squared."""
    total = torch.zeros(len(states), len(states), dtype=torch.float64)
    for name, first in states[0].items():
        if first.is_floating_point():
            rows = torch.stack([state[name].reshape(-1) for state in states]).double()
            total += torch.stack([(rows - row).square().sum(1) for row in rows])
    return total.nan_to_num(nan=math.inf)  # inf - inf, between two who both sent infinity


def krum_scores(distances: Tensor, byzantine: int) -> list[float]:
    """Return each one's sum of squared distances to the n - f - 2 that are nearest (Blanchard et al. 2017, section 4).

    distances: squared, [n, n].
    """
    nearest = len(distances) - byzantine - 2
    return [
        float(torch.cat([row[:place], row[place + 1 :]]).sort().values[:nearest].sum())
        for place, row in enumerate(distances)
    ]


def _cut(combine: TrimmedMean | Median, count: int) -> int:
    """How many values are left out at either end."""
    if isinstance(combine, Median):
        return (count - 1) // 2
    return math.ceil(combine.trim * count - 1e-9)


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
