"""Which values are sent: a mask, told in as few bits as what both sides know allows.

Where ones are as likely everywhere, a mask of n places with k ones takes log2(n choose k) bits or a little more. Where
they are likelier in some tensors, or among values of some class (such as: moved in the last round), it takes less to
tell each of these apart, each with a count of its own. The writer tries all and says in two bits which one it took.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.value_block import Flags, ValueBlock
from onebasin.wire.entropy import Probabilities, SymbolReader, SymbolWriter, flags_cost


class Split(IntEnum):
    """What is told apart."""

    NOTHING = 0
    PARTS = 1
    HISTORY = 2
    BOTH = 3


Piece = tuple[slice, Flags | None]
"""Consecutive places, and which of them; None for all."""


def write_mask(mask: Flags, block: ValueBlock, out: SymbolWriter) -> None:
    """Write one flag for each value of a block."""
    possible = [split for split in Split if block.history is not None or split in (Split.NOTHING, Split.PARTS)]
    best = min(possible, key=lambda split: _cost(mask, block, split))
    out.integer(best, len(Split))
    for stretch, among in _pieces(block, best):
        out.flags(mask[stretch] if among is None else mask[stretch][among])


def read_mask(block: ValueBlock, source: SymbolReader) -> Flags:
    """Read what `write_mask` wrote."""
    split = Split(source.integer(len(Split)))
    if block.history is None:
        split = Split(split & Split.PARTS)
    mask = np.zeros(block.numel, dtype=np.bool_)
    for stretch, among in _pieces(block, split):
        if among is None:
            mask[stretch] = source.flags(stretch.stop - stretch.start)
        else:
            mask[stretch][among] = source.flags(int(among.sum()))
    return mask


def _pieces(block: ValueBlock, split: Split) -> Iterator[Piece]:
    stretches = [slice(*bound) for bound in block.bounds] if split & Split.PARTS else [slice(0, block.numel)]
    for stretch in stretches:
        if split & Split.HISTORY and block.history is not None:
            for each in np.unique(block.history[stretch]):
                yield stretch, block.history[stretch] == each
        else:
            yield stretch, None


def _cost(mask: Flags, block: ValueBlock, split: Split) -> float:
    """Bits that a mask takes, about."""
    total = 0.0
    for stretch, among in _pieces(block, split):
        flags = mask[stretch] if among is None else mask[stretch][among]
        total += flags_cost(int(flags.sum()), len(flags))
    return total


def chances(scores: Tensor) -> Probabilities:
    """Return the chance that scores give to each of their weights to be kept."""
    return torch.sigmoid(scores.double()).numpy()
