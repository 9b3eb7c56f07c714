"""Send each value as a multiple of a step."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import read_scales
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Uniform(FinalStage):
    """`bits` a value or less: whole multiples of a step, the largest of each tensor being the last.

    rounding: to the `nearest`, or `stochastic`: up or down such that the mean is right.
    """

    name: ClassVar[str] = "uniform"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=2, le=8)] = 4
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        largest = [float(part.abs().max()) if len(part) else 0.0 for part in block.split(values)]
        scales = torch.tensor(largest, dtype=torch.float64).div(self._levels).float()
        steps = values / block.spread(torch.where(scales > 0, scales, 1.0))
        if self.rounding == "stochastic":
            steps = torch.floor(steps + torch.rand(len(steps), generator=context.generator(self.name)))
        symbols = steps.round().clamp(-self._levels, self._levels).int() + self._levels
        out.floats(scales.numpy())
        out.symbols(symbols.numpy(), 2 * self._levels + 1)
        return self._values(symbols, scales, block)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        scales = read_scales(source, len(block.shapes))
        return self._values(torch.from_numpy(source.symbols(block.numel, 2 * self._levels + 1)), scales, block)

    @property
    def _levels(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def _values(self, symbols: Tensor, scales: Tensor, block: ValueBlock) -> Tensor:
        return (symbols - self._levels).float() * block.spread(scales)
