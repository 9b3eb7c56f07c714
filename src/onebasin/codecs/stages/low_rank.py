"""Approximation of matrices by products of two factors with few columns."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, Stage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class LowRank(Stage):
    """Sends each matrix as two factors of `rank` columns, from `steps` steps of subspace iteration.

    A tensor is a matrix [first axis, all other axes]. One for which two factors are not fewer values is not changed.
    The iteration starts from a random basis that all senders of a round share. Vogels, Karimireddy, Jaggi: PowerSGD.
    NeurIPS
    2019 (arXiv 1905.13727), algorithm 1. PowerSGD takes one step per round, because each step needs an all-reduce, and
    reuses the last round's factor; here the sender has the whole matrix and can take several steps before it sends.
    """

    name: ClassVar[str] = "low-rank"
    main: ClassVar[str | None] = "rank"

    rank: Annotated[int, Field(ge=1, le=64)] = 2
    steps: Annotated[int, Field(ge=1, le=64)] = 1

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        pieces = []
        generator = context.generator(self.name, shared=True)
        for part, shape in zip(block.split(values), block.shapes, strict=True):
            if not self._is_factored(shape):
                pieces.append(part)
                continue
            matrix = part.view(shape[0], -1)
            basis = torch.randn(matrix.shape[1], self.rank, generator=generator)
            left = torch.linalg.qr(matrix @ basis).Q
            for _ in range(self.steps - 1):
                left = torch.linalg.qr(matrix @ (matrix.T @ left)).Q
            pieces += [left.reshape(-1), (matrix.T @ left).reshape(-1)]
        factors = self._factor_block(block)
        received = encode_next(torch.cat(pieces) if pieces else values, factors)
        return self._products(received, factors, block)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        factors = self._factor_block(block)
        return self._products(decode_next(factors), factors, block)

    def _is_factored(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor is a matrix that has more values than its two factors."""
        if len(shape) < 2 or 0 in shape:
            return False
        rows, columns = shape[0], torch.Size(shape[1:]).numel()
        return self.rank <= rows and self.rank * (rows + columns) < rows * columns

    def _factor_block(self, block: ValueBlock) -> ValueBlock:
        """Return the block of the factors, two for each factored part, and of the other parts."""
        shapes: list[tuple[int, ...]] = []
        for shape in block.shapes:
            if self._is_factored(shape):
                shapes += [(shape[0], self.rank), (torch.Size(shape[1:]).numel(), self.rank)]
            else:
                shapes.append(shape)
        return ValueBlock(tuple(shapes))

    def _products(self, received: Tensor, factors: ValueBlock, block: ValueBlock) -> Tensor:
        """Return the values [n] of the products of received factors, and of the other parts.

        A product is summed column by column: a fixed order of sums gives the same bits on every machine.
        """
        pieces = iter(zip(factors.split(received), factors.shapes, strict=True))
        parts = []
        for shape in block.shapes:
            part, left_shape = next(pieces)
            if self._is_factored(shape):
                right, right_shape = next(pieces)
                columns = zip(part.view(left_shape).unbind(1), right.view(right_shape).unbind(1), strict=True)
                product = torch.zeros(left_shape[0], right_shape[0])
                for left_column, right_column in columns:
                    product += left_column[:, None] * right_column[None, :]
                part = product.reshape(-1)
            parts.append(part)
        return torch.cat(parts) if parts else received
