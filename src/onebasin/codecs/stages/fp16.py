"""Send every value in 16 bits."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Float16(FinalStage):
    """16 bits a value: IEEE half precision."""

    name: ClassVar[str] = "fp16"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        halves = values.half()
        out.floats(halves.numpy(), "<f2")
        return halves.float()

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        return torch.from_numpy(source.floats(block.numel, "<f2").astype("f4"))
