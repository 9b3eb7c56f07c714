"""One-bit quantisation to signs."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import mean_magnitudes, read_scales
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Sign(FinalStage):
    """Sends the sign of each value in 1 bit, and the mean magnitude of `all` values, of each `tensor`, or none (`one`).

    With scale `one` the decoded values are -1 and 1, as majority votes need. Bernstein et al.: signSGD. ICML 2018
    (arXiv 1802.04434). After top-k, these are the ternary values of STC (Sattler et al. 2019).
    """

    name: ClassVar[str] = "sign"
    main: ClassVar[str | None] = "scale"

    scale: Literal["all", "tensor", "one"] = "all"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        scales = mean_magnitudes(values, block, self.scale)
        out.floats(scales.numpy()[: self._scale_count(block)])
        positive = values > 0
        out.integers(positive.numpy(), 2)
        return self._values(positive, scales, block)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        scales = torch.ones(1) if self.scale == "one" else read_scales(source, self._scale_count(block))
        return self._values(torch.from_numpy(source.integers(block.numel, 2) > 0), scales, block)

    def _scale_count(self, block: ValueBlock) -> int:
        """Return how many scales are sent."""
        return {"all": 1, "tensor": len(block.shapes), "one": 0}[self.scale]

    def _values(self, positive: Tensor, scales: Tensor, block: ValueBlock) -> Tensor:
        return torch.where(positive, 1.0, -1.0) * _per_value(scales, block)


def _per_value(scales: Tensor, block: ValueBlock) -> Tensor:
    return scales if len(scales) == 1 else block.per_value(scales)
