"""Send each value as a randomly rounded multiple of a share of the norm."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import read_scales
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Qsgd(FinalStage):
    """Multiples of 1/`levels` of a tensor's length, stochastically rounded, so that the mean is right.

    Alistarh, Grubic, Li, Tomioka, Vojnovic: QSGD. NIPS 2017 (arXiv 1610.02132), section 3.1; symbols at their entropy.
    """

    name: ClassVar[str] = "qsgd"
    main: ClassVar[str | None] = "levels"

    levels: Annotated[int, Field(ge=1, le=127)] = 8

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        lengths = torch.tensor([float(part.double().norm()) for part in block.split(values)])
        share = values.abs() / block.spread(torch.where(lengths > 0, lengths, 1.0)) * self.levels
        draws = torch.rand(len(share), generator=context.generator(self.name))
        symbols = (torch.floor(share + draws).clamp(max=self.levels) * values.sign()).int() + self.levels
        out.floats(lengths.numpy())
        out.symbols(symbols.numpy(), 2 * self.levels + 1)
        return self._values(symbols, lengths, block)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        lengths = read_scales(source, len(block.shapes))
        return self._values(torch.from_numpy(source.symbols(block.numel, 2 * self.levels + 1)), lengths, block)

    def _values(self, symbols: Tensor, lengths: Tensor, block: ValueBlock) -> Tensor:
        return (symbols - self.levels).float() / self.levels * block.spread(lengths)
