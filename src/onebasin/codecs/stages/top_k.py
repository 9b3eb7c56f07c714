"""Send the values of the largest magnitudes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import read_mask, write_mask
from onebasin.codecs.stage import Decode, Encode, Stage
from onebasin.codecs.value_block import Flags, ValueBlock, count_of, scatter
from onebasin.wire.entropy import SymbolReader, SymbolWriter

Share = Annotated[float, Field(gt=0, le=1)]


class TopK(Stage):
    """Only the largest `share` of the values, by magnitude: of all, or `per` tensor. Where they are is told.

    Aji, Heafield: Sparse Communication for Distributed Gradient Descent. EMNLP 2017 (arXiv 1704.05021).
    """

    name: ClassVar[str] = "top-k"
    main: ClassVar[str | None] = "share"

    share: Share = 0.01
    per: Literal["all", "tensor"] = "all"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        bounds = block.bounds if self.per == "tensor" else [(0, block.numel)]
        mask = np.zeros(block.numel, dtype=np.bool_)
        for begin, end in bounds:
            mask[begin:end] = _largest(values[begin:end], self.share)
        write_mask(mask, block, out)
        chosen = torch.from_numpy(mask)
        return scatter(rest(values[chosen], block.chosen(mask)), chosen)

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        mask = read_mask(block, source)
        return scatter(rest(block.chosen(mask)), torch.from_numpy(mask))


def _largest(values: Tensor, share: float) -> Flags:
    """The largest of the values that are not zero; of equal ones, those that come first."""
    size = values.abs().numpy()
    if not len(size):
        return np.zeros(0, dtype=np.bool_)
    count = count_of(len(size), share)
    least = np.partition(size, len(size) - count)[len(size) - count]
    mask: Flags = size > least
    if least > 0:
        mask[np.flatnonzero(size == least)[: count - int(mask.sum())]] = True
    return mask
