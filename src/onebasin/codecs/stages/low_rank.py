"""Matrices as products of two thin ones."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class LowRank(Stage):
    """Each tensor, as a matrix [its first axis, the rest], by two factors of `rank` columns; others go on as they are.

    Subspace iteration from a basis that all senders of a round draw alike. Vogels, Karimireddy, Jaggi: PowerSGD.
    NeurIPS 2019 (arXiv 1905.13727), algorithm 1. There one step a round is all that all-reduce allows, and the last
    round's factor is reused; here the sender has the matrix, and takes as many steps as it likes before it sends.
    """

    name: ClassVar[str] = "low-rank"
    main: ClassVar[str | None] = "rank"

    rank: Annotated[int, Field(ge=1, le=64)] = 2
    steps: Annotated[int, Field(ge=1, le=64)] = 1

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        pieces = []
        draws = context.generator(self.name, shared=True)
        for part, shape in zip(block.split(values), block.shapes, strict=True):
            if not self._pays(shape):
                pieces.append(part)
                continue
            matrix = part.view(shape[0], -1)
            basis = torch.randn(matrix.shape[1], self.rank, generator=draws)
            left = torch.linalg.qr(matrix @ basis).Q
            for _ in range(self.steps - 1):
                left = torch.linalg.qr(matrix @ (matrix.T @ left)).Q
            pieces += [left.reshape(-1), (matrix.T @ left).reshape(-1)]
        inner = self._factored(block)
        received = rest(torch.cat(pieces) if pieces else values, inner)
        return self._multiplied(received, inner, block)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        inner = self._factored(block)
        return self._multiplied(rest(inner), inner, block)

    def _pays(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor is a matrix that two factors say in fewer values."""
        if len(shape) < 2 or 0 in shape:
            return False
        rows, columns = shape[0], torch.Size(shape[1:]).numel()
        return self.rank <= rows and self.rank * (rows + columns) < rows * columns

    def _factored(self, block: ValueBlock) -> ValueBlock:
        shapes: list[tuple[int, ...]] = []
        for shape in block.shapes:
            if self._pays(shape):
                shapes += [(shape[0], self.rank), (torch.Size(shape[1:]).numel(), self.rank)]
            else:
                shapes.append(shape)
        return ValueBlock(tuple(shapes))

    def _multiplied(self, received: Tensor, inner: ValueBlock, block: ValueBlock) -> Tensor:
        """Each pair of factors multiplied, column by column: sums in a fixed order have the same bits everywhere."""
        pieces = iter(zip(inner.split(received), inner.shapes, strict=True))
        products = []
        for shape in block.shapes:
            part, form = next(pieces)
            if self._pays(shape):
                right, right_form = next(pieces)
                columns = zip(part.view(form).unbind(1), right.view(right_form).unbind(1), strict=True)
                total = torch.zeros(form[0], right_form[0])
                for one, other in columns:
                    total += one[:, None] * other[None, :]
                part = total.reshape(-1)
            products.append(part)
        return torch.cat(products) if products else received
