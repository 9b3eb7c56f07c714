"""What a stage of a chain gets: values in one vector, in parts whose shapes both sides know."""

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
    """The parts that a vector of values consists of. history: of each value, what both sides know of it beforehand."""

    shapes: tuple[tuple[int, ...], ...]
    history: ChangeHistory | None = None

    @cached_property
    def sizes(self) -> list[int]:
        """How many values each part has."""
        return [math.prod(shape) for shape in self.shapes]

    @cached_property
    def numel(self) -> int:
        return sum(self.sizes)

    @cached_property
    def bounds(self) -> list[tuple[int, int]]:
        """Where each part begins and ends."""
        return list(pairwise(accumulate(self.sizes, initial=0)))

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        return torch.split(values, self.sizes)

    def spread(self, numbers: Tensor) -> Tensor:
        """One number a part, repeated for each of its values."""
        return numbers.repeat_interleave(torch.tensor(self.sizes, dtype=torch.int64))

    def chosen(self, mask: Flags) -> ValueBlock:
        """The block of the values that a mask picks: parts stay, flat."""
        counts = [int(mask[begin:end].sum()) for begin, end in self.bounds]
        return ValueBlock(tuple((count,) for count in counts), None if self.history is None else self.history[mask])

    def parts(self, numbers: Sequence[int]) -> ValueBlock:
        """The block of some parts, whole."""
        kept = None
        if self.history is not None:
            kept = np.concatenate([self.history[slice(*self.bounds[n])] for n in numbers] or [self.history[:0]])
        return ValueBlock(tuple(self.shapes[n] for n in numbers), kept)


def scatter(kept: Tensor, chosen: Tensor) -> Tensor:
    """Return values [n] that are `kept` [k] where `chosen` [n] is true, and 0 elsewhere."""
    values = torch.zeros(len(chosen))
    values[chosen] = kept
    return values


def count_of(size: int, share: float) -> int:
    """How many values a share is: at least one, if there are any."""
    return min(size, max(1, round(size * share)))
