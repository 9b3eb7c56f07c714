"""A mask of the scores above zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import DecodeNext, EncodeNext, MaskStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Threshold(MaskStage):
    """Sends which scores are above 0, in at most 1 bit per score.

    Each tensor's flags are coded in two groups: those of scores that are above 0 in the known model, then the others.
    Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519).
    """

    name: ClassVar[str] = "threshold"
    mask_forms: ClassVar[tuple[str, ...]] = ("sign", "backbone")

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        scores = values if context.known_model is None else values + context.known_model
        mask = (scores > 0).numpy()
        for indices in _groups(block, context):
            out.flags(mask[indices])
        return torch.from_numpy(mask).float()

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        mask = np.zeros(block.numel, dtype=np.bool_)
        for indices in _groups(block, context):
            mask[indices] = source.flags(len(indices))
        return torch.from_numpy(mask).float()


def _groups(block: ValueBlock, context: CodingContext) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Yield, for each part, the indices of its scores that are above 0 in the known model, then those of the others."""
    above = np.ones(block.numel, dtype=np.bool_) if context.known_model is None else (context.known_model > 0).numpy()
    for begin, end in block.bounds:
        for value in (True, False):
            yield begin + np.flatnonzero(above[begin:end] == value)
