"""Send a mask drawn from the probabilities that scores stand for."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import chances
from onebasin.codecs.stage import Decode, Encode, MaskStage
from onebasin.codecs.value_block import Flags, ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter, flags_by_probability_cost, flags_cost


class Mask(MaskStage):
    """A mask drawn from the chances that scores stand for, one of its bits a value; at most 1 bit each.

    Isik et al.: Sparse Random Networks for Communication-Efficient Federated Learning. ICLR 2023 (arXiv 2209.15328).
    Told by how many of a tensor's bits are set, or by the chances of the model that both sides hold, whichever is
    shorter.
    """

    name: ClassVar[str] = "mask"
    mask_forms: ClassVar[tuple[str, ...]] = ("probability",)

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, rest: Encode
    ) -> Tensor:
        goal = values if context.known_model is None else values + context.known_model
        mask = torch.rand(len(goal), generator=context.generator(self.name), dtype=torch.float64).numpy() < chances(
            goal
        )
        known = None if context.known_model is None else chances(context.known_model)
        by_chance = known is not None and flags_by_probability_cost(mask, known) < _counted(mask, block)
        out.integer(by_chance, 2)
        if by_chance and known is not None:
            out.flags_by_probability(mask, known)
        else:
            for begin, end in block.bounds:
                out.flags(mask[begin:end])
        return torch.from_numpy(mask).float()

    def decode(self, block: ValueBlock, source: SymbolReader, context: CodingContext, rest: Decode) -> Tensor:
        if source.integer(2) and context.known_model is not None:
            mask = source.flags_by_probability(chances(context.known_model))
        else:
            parts = [source.flags(size) for size in block.sizes]
            mask = np.concatenate([np.zeros(0, dtype=np.bool_), *parts])
        return torch.from_numpy(mask).float()


def _counted(mask: Flags, block: ValueBlock) -> float:
    return sum(flags_cost(int(mask[begin:end].sum()), end - begin) for begin, end in block.bounds)
