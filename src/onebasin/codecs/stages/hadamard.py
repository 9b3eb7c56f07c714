"""A random rotation before quantisation: it makes values nearly normal, and spreads the error of each over all."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, Stage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter

MIN_LENGTH = 256
MAX_LENGTH = 1 << 20


class Hadamard(Stage):
    """Rotates the values by seeded random signs and the Walsh-Hadamard transform, which the receiver inverts.

    Values are cut into chunks whose lengths are powers of two, from 2^20 down to 256; only the last chunk is padded
    with zeros. The following stages get one part per chunk. Suresh, Yu, Kumar, McMahan: Distributed Mean Estimation
    with Limited Communication. ICML 2017 (arXiv 1611.00429), section 3.
    """

    name: ClassVar[str] = "hadamard"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        lengths = _chunk_lengths(block.numel)
        padded = torch.cat([values, torch.zeros(sum(lengths) - len(values))])
        rotated = [transform(chunk) for chunk in torch.split(padded * self._signs(len(padded), context), lengths)]
        received = encode_next(torch.cat(rotated) if rotated else padded, _chunk_block(lengths))
        return self._inverse(received, lengths, block.numel, context)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        lengths = _chunk_lengths(block.numel)
        return self._inverse(decode_next(_chunk_block(lengths)), lengths, block.numel, context)

    def _signs(self, count: int, context: CodingContext) -> Tensor:
        return torch.randint(0, 2, (count,), generator=context.generator(self.name)).mul(2).sub(1).float()

    def _inverse(self, rotated: Tensor, lengths: list[int], count: int, context: CodingContext) -> Tensor:
        chunks = [transform(chunk) for chunk in torch.split(rotated, lengths)]
        return (torch.cat(chunks) * self._signs(len(rotated), context))[:count] if chunks else rotated


def transform(values: Tensor) -> Tensor:
    """Return the orthonormal Walsh-Hadamard transform of values [n], which is its own inverse; n is a power of two.

    Sums have a fixed order, so that every machine computes the same bits.
    """
    half = 1
    while half < len(values):
        pairs = values.view(-1, 2, half)
        values = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).view(-1)
        half *= 2
    return values * (1 / math.sqrt(len(values)))


def _chunk_lengths(count: int) -> list[int]:
    """Return the lengths of the chunks of `count` values, padding included."""
    lengths = []
    remaining, length = count, MAX_LENGTH
    while remaining > 0:
        while length > MIN_LENGTH and length > remaining:
            length //= 2
        lengths.append(length)
        remaining -= length
    return lengths


def _chunk_block(lengths: list[int]) -> ValueBlock:
    return ValueBlock(tuple((length,) for length in lengths))
