"""Send the signs of the values, and their mean magnitude."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import mean_magnitudes, read_scales
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Sign(FinalStage):
    """1 bit a value, and a magnitude: the mean of `all` values or of each `tensor`; or `one`, as majority votes need.

    Bernstein et al.: signSGD. ICML 2018 (arXiv 1802.04434). After top-k: the ternary values of Sattler et al. 2019.
    """

    name: ClassVar[str] = "sign"
    main: ClassVar[str | None] = "scale"

    scale: Literal["all", "tensor", "one"] = "all"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        scales = mean_magnitudes(values, block, self.scale)
        out.floats(scales.numpy()[: self._sent(block)])
        positive = values > 0
        out.integers(positive.numpy(), 2)
        return self._values(positive, scales, block)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        scales = torch.ones(1) if self.scale == "one" else read_scales(source, self._sent(block))
        return self._values(torch.from_numpy(source.integers(block.numel, 2) > 0), scales, block)

    def _sent(self, block: ValueBlock) -> int:
        return {"all": 1, "tensor": len(block.shapes), "one": 0}[self.scale]

    def _values(self, positive: Tensor, scales: Tensor, block: ValueBlock) -> Tensor:
        return torch.where(positive, 1.0, -1.0) * _each(scales, block)


def _each(scales: Tensor, block: ValueBlock) -> Tensor:
    return scales if len(scales) == 1 else block.spread(scales)
