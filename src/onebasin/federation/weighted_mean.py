"""A running weighted mean of tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from onebasin.core.layout import Layout, Tensors


class WeightedMean:
    """A running weighted mean of the tensors of one layout, in float64; of integer tensors it is the maximum.

    Equal values, added in the same order, give equal bits. It takes the memory of one model, whatever the number of
    values that are added.
    weight: the sum of the weights so far.
    sums: the weighted sums by name; {} before the first value.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.sums: Tensors = {}
        self.weight = 0.0

    def add(self, tensors: Tensors, weight: float) -> None:
        """Add the tensors of one client. weight: above 0."""
        for entry in self._layout.entries:
            value = tensors[entry.name]
            if not value.is_floating_point():
                largest = self.sums.get(entry.name, value)
                self.sums[entry.name] = torch.maximum(largest, value)
            elif entry.name in self.sums:
                self.sums[entry.name].add_(value, alpha=weight)
            else:
                self.sums[entry.name] = value.double() * weight
        self.weight += weight

    def change(self, change: Callable[[Tensors], Tensors]) -> None:
        """Replace the sums by `change(sums)`, if anything was added."""
        if self.weight:
            self.sums = change(self.sums)

    def result(self) -> Tensors:
        """Return the mean, in the types of the layout. Raises ValueError if nothing was added."""
        if self.weight <= 0:
            raise ValueError("the mean of no replies")
        return {
            e.name: (self.sums[e.name] / self.weight).to(e.dtype)
            if e.dtype.is_floating_point
            else self.sums[e.name].clone()
            for e in self._layout.entries
        }
