"""Send which scores are above zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.stage import Decode, Encode, MaskStage
from onebasin.codecs.value_block import ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter


class Threshold(MaskStage):
    """Which scores are above 0, at most 1 bit each: told apart by whether they are in the model that both sides hold.

    Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519).
    """

    name: ClassVar[str] = "threshold"
    mask_forms: ClassVar[tuple[str, ...]] = ("sign", "backbone")

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        goal = values if context.known_model is None else values + context.known_model
        mask = (goal > 0).numpy()
        for places in _parts_alike(block, context):
            out.flags(mask[places])
        return torch.from_numpy(mask).float()

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        mask = np.zeros(block.numel, dtype=np.bool_)
        for places in _parts_alike(block, context):
            mask[places] = source.flags(len(places))
        return torch.from_numpy(mask).float()


def _parts_alike(block: ValueBlock, context: CodingContext) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """The places of each tensor's scores that are above 0 in the model that both sides hold, then of its others."""
    known = np.ones(block.numel, dtype=np.bool_) if context.known_model is None else (context.known_model > 0).numpy()
    for begin, end in block.bounds:
        for kept in (True, False):
            yield begin + np.flatnonzero(known[begin:end] == kept)
