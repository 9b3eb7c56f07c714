"""Single precision: 32 bits per value."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Float32(FinalStage):
    """Sends each value in 32 bits, exactly."""

    name: ClassVar[str] = "fp32"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        out.floats(values.numpy())
        return values.clone()

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        return torch.from_numpy(source.floats(block.numel))
