"""Quantisation with levels that are fitted to the values."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.fitted_levels import fitted_levels
from onebasin.codecs.stage import DecodeNext, EncodeNext, FinalStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter
from onebasin.wire.error import WireError


class Lloyd(FinalStage):
    """Quantises values to 2^`bits` least-squares levels, which are fitted to the values and sent before them.

    A level takes 32 bits; all tensors have the same levels. Use it for values of no known distribution, such as those
    that top-k selects. Lloyd: Least Squares Quantization in PCM. IEEE Trans. Inf. Theory 1982.
    """

    name: ClassVar[str] = "lloyd"
    main: ClassVar[str | None] = "bits"

    bits: Annotated[int, Field(ge=1, le=6)] = 2

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        levels = fitted_levels(values.numpy(), 1 << self.bits)
        symbols = np.searchsorted((levels[1:].astype(np.float64) + levels[:-1]) / 2, values.numpy()).astype(np.int32)
        out.floats(levels)
        out.symbols(symbols, 1 << self.bits)
        return torch.from_numpy(levels[symbols])

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        levels = source.floats(1 << self.bits)
        if not np.isfinite(levels).all():
            raise WireError("a level is NaN or infinite")
        return torch.from_numpy(levels[source.symbols(block.numel, 1 << self.bits)])
