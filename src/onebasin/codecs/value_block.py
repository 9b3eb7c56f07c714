"""The description of the vector of values that a stage encodes: the shapes of its parts, and a history of changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

Flags = np.ndarray[Any, np.dtype[np.bool_]]
ChangeHistory = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class ValueBlock:
    """The parts, one after the other, of a vector of values [n]. The first block of a chain has a part per tensor.

    shapes: the shapes of the parts, which sender and receiver know. history: the class of each value [n], from 0 to
    255, which both know as well: in which of the last deltas it changed. None if there are no classes.
    """

    shapes: tuple[tuple[int, ...], ...]
    history: ChangeHistory | None = None

    @cached_property
    def sizes(self) -> list[int]:
        """Return the number of values of each part."""
        return [math.prod(shape) for shape in self.shapes]

    @cached_property
    def numel(self) -> int:
        """Return n, the number of values of all parts together."""
        return sum(self.sizes)

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """Return the first index of each part, and the index after its last one."""
        return list(pairwise(accumulate(self.sizes, initial=0)))

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Return a vector [n] as one vector per part."""
        return torch.split(values, self.sizes)

    def per_value(self, numbers: Tensor) -> Tensor:
        """Return numbers [parts] as a vector [n], in which each value has the number of its part."""
        return numbers.repeat_interleave(torch.tensor(self.sizes, dtype=torch.int64))

    def select(self, mask: Flags) -> ValueBlock:
        """Return the block of the values whose flag in `mask` [n] is set; every part remains, as a vector."""
        counts = [int(mask[begin:end].sum()) for begin, end in self.bounds]
        return ValueBlock(tuple((count,) for count in counts), None if self.history is None else self.history[mask])

    def select_parts(self, indices: Sequence[int]) -> ValueBlock:
        """Return the block of the parts with these indices, with their shapes."""
        history = None
        if self.history is not None:
            parts = [self.history[slice(*self.bounds[index])] for index in indices]
            history = np.concatenate(parts or [self.history[:0]])
        return ValueBlock(tuple(self.shapes[index] for index in indices), history)


def scatter(selected: Tensor, mask: Tensor) -> Tensor:
    """Return values [n] that are those of `selected` [k], in order, where `mask` [n] is true, and 0 elsewhere."""
    values = torch.zeros(len(mask))
    values[mask] = selected
    return values


def share_count(size: int, share: float) -> int:
    """Return the number of values in a share of `size` values, rounded; at least 1 if there are any."""
    return min(size, max(1, round(size * share)))
