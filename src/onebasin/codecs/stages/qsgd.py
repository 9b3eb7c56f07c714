"""Stochastic quantisation relative to the norm of each tensor."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import read_scales
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Qsgd(FinalStage):
    """Rounds values stochastically, without bias, to multiples of 1/`levels` of their tensor's Euclidean norm.

    Alistarh, Grubic, Li, Tomioka, Vojnovic: QSGD. NIPS 2017 (arXiv 1610.02132), section 3.1; symbols at their entropy.
    """

    name: ClassVar[str] = "qsgd"
    main: ClassVar[str | None] = "levels"

    levels: Annotated[int, Field(ge=1, le=127)] = 8

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        norms = torch.tensor([float(part.double().norm()) for part in block.split(values)])
        multiples = values.abs() / block.per_value(torch.where(norms > 0, norms, 1.0)) * self.levels
        uniform = torch.rand(len(multiples), generator=context.generator(self.name))
        symbols = (torch.floor(multiples + uniform).clamp(max=self.levels) * values.sign()).int() + self.levels
        out.floats(norms.numpy())
        out.symbols(symbols.numpy(), 2 * self.levels + 1)
        return self._values(symbols, norms, block)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        norms = read_scales(source, len(block.shapes))
        return self._values(torch.from_numpy(source.symbols(block.numel, 2 * self.levels + 1)), norms, block)

    def _values(self, symbols: Tensor, norms: Tensor, block: ValueBlock) -> Tensor:
        return (symbols - self.levels).float() / self.levels * block.per_value(norms)
