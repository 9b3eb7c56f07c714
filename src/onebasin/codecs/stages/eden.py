"""Send each value as a level of a quantiser for normal values."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import read_scales
from onebasin.codecs.stage import Decode, Encode, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.gaussian_levels import gaussian_levels


class Eden(FinalStage):
    """`bits` a value by the least-squares levels of the normal distribution, and a scale; for rotated values.

    The scale of each part makes the mean right. Vargaftik et al.: EDEN. ICML 2022 (arXiv 2108.08842), algorithm 1; with
    one bit it is DRIVE (NeurIPS 2021, arXiv 2105.08339).
    """

    name: ClassVar[str] = "eden"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=8)] = 1

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        edges, levels = gaussian_levels(self.bits)
        parts, codes, scales = block.split(values), [], []
        for part in parts:
            square = float(part.double().square().sum())
            norm = math.sqrt(square / max(len(part), 1)) or 1.0
            found = np.searchsorted(edges, (part.double() / norm).numpy())
            along = float((part.double().numpy() * levels[found]).sum())
            codes.append(found)
            scales.append(square / along if along > 0 else 0.0)
        told = torch.tensor(scales, dtype=torch.float64).float()
        symbols = np.concatenate(codes).astype(np.int32) if codes else np.zeros(0, dtype=np.int32)
        out.floats(told.numpy())
        out.symbols(symbols, 1 << self.bits)
        return self._values(symbols, told, block)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        scales = read_scales(source, len(block.shapes))
        return self._values(source.symbols(block.numel, 1 << self.bits), scales, block)

    def _values(self, symbols: np.ndarray, scales: Tensor, block: ValueBlock) -> Tensor:
        levels = gaussian_levels(self.bits)[1].astype(np.float32)
        return torch.from_numpy(levels[symbols]) * block.spread(scales)
