"""Half precision: 16 bits per value."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Float16(FinalStage):
    """Sends each value in 16 bits: IEEE half precision."""

    name: ClassVar[str] = "fp16"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        halves = values.half()
        out.floats(halves.numpy(), "<f2")
        return halves.float()

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        return torch.from_numpy(source.floats(block.numel, "<f2").astype("f4"))
