"""A mask that is sampled from the probabilities of scores."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.context import CodingContext
from onebasin.codecs.mask_coding import keep_probabilities
from onebasin.codecs.stage import DecodeNext, EncodeNext, MaskStage
from onebasin.codecs.value_block import Flags, ValueBlock
from onebasin.wire.entropy import SymbolReader, SymbolWriter, flags_by_probability_cost, flags_cost


class Mask(MaskStage):
    """Samples a mask from the probabilities that scores stand for, and sends it in at most 1 bit per score.

    The bits are coded in the shorter of two ways, which one bit names: tensor by tensor at the share of ones, or each
    at the probability that the known model gives it. Isik et al.: Sparse Random Networks for Communication-Efficient
    Federated Learning. ICLR 2023 (arXiv 2209.15328).
    """

    name: ClassVar[str] = "mask"
    mask_forms: ClassVar[tuple[str, ...]] = ("probability",)

    def encode(
        self, values: Tensor, block: ValueBlock, out: SymbolWriter, context: CodingContext, encode_next: EncodeNext
    ) -> Tensor:
        scores = values if context.known_model is None else values + context.known_model
        uniform = torch.rand(len(scores), generator=context.generator(self.name), dtype=torch.float64).numpy()
        mask = uniform < keep_probabilities(scores)
        known = None if context.known_model is None else keep_probabilities(context.known_model)
        by_probability = known is not None and flags_by_probability_cost(mask, known) < _flags_cost(mask, block)
        out.integer(by_probability, 2)
        if by_probability and known is not None:
            out.flags_by_probability(mask, known)
        else:
            for begin, end in block.bounds:
                out.flags(mask[begin:end])
        return torch.from_numpy(mask).float()

    def decode(
        self, block: ValueBlock, source: SymbolReader, context: CodingContext, decode_next: DecodeNext
    ) -> Tensor:
        if source.integer(2) and context.known_model is not None:
            mask = source.flags_by_probability(keep_probabilities(context.known_model))
        else:
            parts = [source.flags(size) for size in block.sizes]
            mask = np.concatenate([np.zeros(0, dtype=np.bool_), *parts])
        return torch.from_numpy(mask).float()


def _flags_cost(mask: Flags, block: ValueBlock) -> float:
    """Return the bits of a mask that is coded part by part at the share of ones."""
    return sum(flags_cost(int(mask[begin:end].sum()), end - begin) for begin, end in block.bounds)
