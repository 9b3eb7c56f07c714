"""Send every value in 32 bits."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Float32(FinalStage):
    """32 bits a value, exact."""

    name: ClassVar[str] = "fp32"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        out.floats(values.numpy())
        return values.clone()

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        return torch.from_numpy(source.floats(block.numel))
