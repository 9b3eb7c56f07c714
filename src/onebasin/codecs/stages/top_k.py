"""Sparse updates of the values with the largest magnitudes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import read_mask, write_mask
from onebasin.codecs.stage import DecodeNext, EncodeNext, Stage
from onebasin.codecs.value_block import Flags, ValueBlock, scatter, share_count
from onebasin.wire.entropy import SymbolReader, SymbolWriter

Share = Annotated[float, Field(gt=0, le=1)]


class TopK(Stage):
    """Sends the `share` of the values with the largest magnitudes, of all or `per` tensor, and their positions.

    Aji, Heafield: Sparse Communication for Distributed Gradient Descent. EMNLP 2017 (arXiv 1704.05021).
    """

    name: ClassVar[str] = "top-k"
    main: ClassVar[str | None] = "share"

    share: Share = 0.01
    per: Literal["all", "tensor"] = "all"

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        bounds = block.bounds if self.per == "tensor" else [(0, block.numel)]
        flags = np.zeros(block.numel, dtype=np.bool_)
        for begin, end in bounds:
            flags[begin:end] = _largest(values[begin:end], self.share)
        write_mask(flags, block, out)
        mask = torch.from_numpy(flags)
        return scatter(encode_next(values[mask], block.select(flags)), mask)

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        flags = read_mask(block, source)
        return scatter(decode_next(block.select(flags)), torch.from_numpy(flags))


def _largest(values: Tensor, share: float) -> Flags:
    """Return which values [n] are selected, booleans: the largest ones, but never zeros; of equal ones the first."""
    magnitudes = values.abs().numpy()
    if not len(magnitudes):
        return np.zeros(0, dtype=np.bool_)
    count = share_count(len(magnitudes), share)
    smallest = np.partition(magnitudes, len(magnitudes) - count)[len(magnitudes) - count]
    mask: Flags = magnitudes > smallest
    if smallest > 0:
        mask[np.flatnonzero(magnitudes == smallest)[: count - int(mask.sum())]] = True
    return mask
