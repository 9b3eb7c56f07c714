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
Classes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Block:
    """The parts that a vector of values consists of. classes: of each value, what both sides know of it beforehand."""

    shapes: tuple[tuple[int, ...], ...]
    classes: Classes | None = None

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

    def chosen(self, mask: Flags) -> Block:
        """The block of the values that a mask picks: parts stay, flat."""
        counts = [int(mask[begin:end].sum()) for begin, end in self.bounds]
        return Block(tuple((count,) for count in counts), None if self.classes is None else self.classes[mask])

    def parts(self, numbers: Sequence[int]) -> Block:
        """The block of some parts, whole."""
        kept = None
        if self.classes is not None:
            kept = np.concatenate([self.classes[slice(*self.bounds[n])] for n in numbers] or [self.classes[:0]])
        return Block(tuple(self.shapes[n] for n in numbers), kept)
