"""A random rotation before quantising: it makes values nearly normal, and spreads the error of each over all."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter

LEAST = 256
MOST = 1 << 20


class Hadamard(Stage):
    """Random signs, then the Walsh-Hadamard transform; both sides draw the signs.

    Values are cut into stretches whose lengths are powers of two, from 2^20 down to 256, so that none but the last is
    filled up. Suresh, Yu, Kumar, McMahan: Distributed Mean Estimation with Limited Communication. ICML 2017 (arXiv
    1611.00429), section 3.
    """

    name: ClassVar[str] = "hadamard"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        lengths = _lengths(block.numel)
        filled = torch.cat([values, torch.zeros(sum(lengths) - len(values))])
        rotated = [transform(part) for part in torch.split(filled * self._signs(len(filled), context), lengths)]
        received = rest(torch.cat(rotated) if rotated else filled, _stretches(lengths))
        return self._undone(received, lengths, block.numel, context)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        lengths = _lengths(block.numel)
        return self._undone(rest(_stretches(lengths)), lengths, block.numel, context)

    def _signs(self, count: int, context: CodingContext) -> Tensor:
        return torch.randint(0, 2, (count,), generator=context.generator(self.name)).mul(2).sub(1).float()

    def _undone(self, rotated: Tensor, lengths: list[int], count: int, context: CodingContext) -> Tensor:
        parts = [transform(part) for part in torch.split(rotated, lengths)]
        return (torch.cat(parts) * self._signs(len(rotated), context))[:count] if parts else rotated


def transform(values: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform, its own inverse. Length: a power of two.

    Sums are made in a fixed order, so that every machine gets the same bits.
    """
    half = 1
    while half < len(values):
        pairs = values.view(-1, 2, half)
        values = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).view(-1)
        half *= 2
    return values * (1 / math.sqrt(len(values)))


def _lengths(count: int) -> list[int]:
    """The powers of two that a number of values is cut into; the last may be longer than what is left."""
    lengths = []
    left, size = count, MOST
    while left > 0:
        while size > LEAST and size > left:
            size //= 2
        lengths.append(size)
        left -= size
    return lengths


def _stretches(lengths: list[int]) -> ValueBlock:
    return ValueBlock(tuple((length,) for length in lengths))
