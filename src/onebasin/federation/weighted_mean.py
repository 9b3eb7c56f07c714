"""A running weighted mean of tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from onebasin.core.layout import Layout, Tensors


class WeightedMean:
    """A running weighted mean of the tensors of one layout, in float64; integer tensors keep their maximum.

    The same values added in the same order give the same bits. Memory: one model, however many are added.
    weight: the sum of the weights that were added. sums: the weighted sums by name; {} before the first.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.sums: Tensors = {}
        self.weight = 0.0

    def add(self, tensors: Tensors, weight: float) -> None:
        """Add one sender's tensors; `weight` is positive."""
        for entry in self._layout.entries:
            value = tensors[entry.name]
            if not value.is_floating_point():
                known = self.sums.get(entry.name, value)
                self.sums[entry.name] = torch.maximum(known, value)
            elif entry.name in self.sums:
                self.sums[entry.name].add_(value, alpha=weight)
            else:
                self.sums[entry.name] = value.double() * weight
        self.weight += weight

    def change(self, change: Callable[[Tensors], Tensors]) -> None:
        """Replace the sums by what `change` makes of them, if there are any."""
        if self.weight:
            self.sums = change(self.sums)

    def result(self) -> Tensors:
        """Return the mean, in the layout's types; `ValueError` when nothing was added."""
        if self.weight <= 0:
            raise ValueError("the mean of no replies")
        return {
            e.name: (self.sums[e.name] / self.weight).to(e.dtype)
            if e.dtype.is_floating_point
            else self.sums[e.name].clone()
            for e in self._layout.entries
        }
