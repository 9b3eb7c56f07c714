"""Uniform quantisation: multiples of a step."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import read_scales
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Uniform(FinalStage):
    """Rounds values to integer multiples of a step, in at most `bits` bits each; each tensor has a step of its own.

    The step is such that the largest magnitude of the tensor is the largest multiple, 2^(bits - 1) - 1.
    rounding: to the `nearest` multiple, or `stochastic`: up or down, at random and without bias.
    """

    name: ClassVar[str] = "uniform"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=2, le=8)] = 4
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        largest = [float(part.abs().max()) if len(part) else 0.0 for part in block.split(values)]
        steps = torch.tensor(largest, dtype=torch.float64).div(self._max_multiple).float()
        multiples = values / block.per_value(torch.where(steps > 0, steps, 1.0))
        if self.rounding == "stochastic":
            multiples = torch.floor(multiples + torch.rand(len(multiples), generator=context.generator(self.name)))
        symbols = multiples.round().clamp(-self._max_multiple, self._max_multiple).int() + self._max_multiple
        out.floats(steps.numpy())
        out.symbols(symbols.numpy(), 2 * self._max_multiple + 1)
        return self._values(symbols, steps, block)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        steps = read_scales(source, len(block.shapes))
        symbols = torch.from_numpy(source.symbols(block.numel, 2 * self._max_multiple + 1))
        return self._values(symbols, steps, block)

    @property
    def _max_multiple(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def _values(self, symbols: Tensor, steps: Tensor, block: ValueBlock) -> Tensor:
        return (symbols - self._max_multiple).float() * block.per_value(steps)
