"""Layout: the names, shapes and types of a model's tensors. Both sides know it, so no message contains it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class TensorEntry:
    """The name, the shape and the type of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """The ordered list of a model's tensors; it gives a vector of their concatenated values its meaning."""

    entries: tuple[TensorEntry, ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Layout":
        """Return the layout of `tensors`, in their order."""
        return cls(tuple(TensorEntry(name, tuple(t.shape), t.dtype) for name, t in tensors.items()))

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def names(self) -> list[str]:
        """Return the names of the tensors, in order."""
        return [entry.name for entry in self.entries]

    @cached_property
    def numel(self) -> int:
        """Return the number of values in all tensors together."""
        return sum(entry.numel for entry in self.entries)

    def split(self, values: Tensor) -> Tensors:
        """Return a vector [numel] of all values as tensors by name; they share its memory."""
        parts = torch.split(values, [entry.numel for entry in self.entries])
        return {e.name: part.view(e.shape) for e, part in zip(self.entries, parts, strict=True)}

    def fingerprint(self, coding: str) -> bytes:
        """Return 2 bytes that identify the layout and the coding's name: their BLAKE2b digest (docs/wire-format.md)."""
        lines = [
            coding,
            *(f"{e.name} {list(e.shape)} {str(e.dtype).removeprefix('torch.')}" for e in self.entries),
        ]
        return blake2b("\n".join(lines).encode(), digest_size=2).digest()

    def check(self, tensors: Mapping[str, Tensor]) -> None:
        """Raise `ValueError` if `tensors` have another layout. The message names the first tensor that differs."""
        if list(tensors) != self.names:
            raise ValueError(f"expected the tensors {self.names}, got {list(tensors)}")
        for entry in self.entries:
            tensor = tensors[entry.name]
            if tuple(tensor.shape) != entry.shape or tensor.dtype != entry.dtype:
                raise ValueError(
                    f"{entry.name}: expected {list(entry.shape)} {entry.dtype}, got {list(tensor.shape)} {tensor.dtype}"
                )
