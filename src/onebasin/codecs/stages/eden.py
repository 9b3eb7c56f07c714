"""Quantisation with the least-squares levels of the normal distribution."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.scales import read_scales
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.gaussian_levels import gaussian_levels


class Eden(FinalStage):
    """Quantises rotated values to the least-squares levels of the normal distribution, in at most `bits` bits each.

    The scale of each part makes decoded values unbiased after a random rotation. Vargaftik et al.: EDEN. ICML 2022
    (arXiv 2108.08842), algorithm 1; with one bit it is DRIVE (NeurIPS 2021, arXiv 2105.08339).
    """

    name: ClassVar[str] = "eden"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=8)] = 1

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        edges, levels = gaussian_levels(self.bits)
        parts, part_symbols, part_scales = block.split(values), [], []
        for part in parts:
            square = float(part.double().square().sum())
            deviation = math.sqrt(square / max(len(part), 1)) or 1.0
            cells = np.searchsorted(edges, (part.double() / deviation).numpy())
            product = float((part.double().numpy() * levels[cells]).sum())
            part_symbols.append(cells)
            part_scales.append(square / product if product > 0 else 0.0)
        scales = torch.tensor(part_scales, dtype=torch.float64).float()
        symbols = np.concatenate(part_symbols).astype(np.int32) if part_symbols else np.zeros(0, dtype=np.int32)
        out.floats(scales.numpy())
        out.symbols(symbols, 1 << self.bits)
        return self._values(symbols, scales, block)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        scales = read_scales(source, len(block.shapes))
        return self._values(source.symbols(block.numel, 1 << self.bits), scales, block)

    def _values(self, symbols: np.ndarray, scales: Tensor, block: ValueBlock) -> Tensor:
        levels = gaussian_levels(self.bits)[1].astype(np.float32)
        return torch.from_numpy(levels[symbols]) * block.per_value(scales)
