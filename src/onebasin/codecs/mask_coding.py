"""Coding of masks, such as the positions of the values that top-k selects.

A mask of n flags with k ones takes about log2(n choose k) bits if ones are equally probable everywhere. If they are
more probable in some tensors, or in some classes of values (those that changed in the last delta, say), a mask is
shorter as several groups of flags, each with its own count of ones. The writer takes the shortest of four groupings; 2
bits name it.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.value_block import Flags, ValueBlock
from onebasin.wire.entropy import Probabilities, SymbolReader, SymbolWriter, flags_cost


class Grouping(IntEnum):
    """The groups of flags that are coded separately; bit 0: by part, bit 1: by class of the change history."""

    ONE_GROUP = 0
    PER_PART = 1
    PER_CLASS = 2
    PER_PART_AND_CLASS = 3


Group = tuple[slice, Flags | None]
"""A range of positions, and which positions of the range are in the group; None for all."""


def write_mask(mask: Flags, block: ValueBlock, out: SymbolWriter) -> None:
    """Write a mask [n], one flag for each value of a block."""
    without_classes = (Grouping.ONE_GROUP, Grouping.PER_PART)
    possible = [grouping for grouping in Grouping if block.history is not None or grouping in without_classes]
    shortest = min(possible, key=lambda grouping: _cost(mask, block, grouping))
    out.integer(shortest, len(Grouping))
    for span, members in _groups(block, shortest):
        out.flags(mask[span] if members is None else mask[span][members])


def read_mask(block: ValueBlock, source: SymbolReader) -> Flags:
    """Return the mask [n] that `write_mask` wrote. Errors: `WireError` if the stream contains none."""
    grouping = Grouping(source.integer(len(Grouping)))
    if block.history is None:
        grouping = Grouping(grouping & Grouping.PER_PART)
    mask = np.zeros(block.numel, dtype=np.bool_)
    for span, members in _groups(block, grouping):
        if members is None:
            mask[span] = source.flags(span.stop - span.start)
        else:
            mask[span][members] = source.flags(int(members.sum()))
    return mask


def _groups(block: ValueBlock, grouping: Grouping) -> Iterator[Group]:
    spans = [slice(*bound) for bound in block.bounds] if grouping & Grouping.PER_PART else [slice(0, block.numel)]
    for span in spans:
        if grouping & Grouping.PER_CLASS and block.history is not None:
            for value_class in np.unique(block.history[span]):
                yield span, block.history[span] == value_class
        else:
            yield span, None


def _cost(mask: Flags, block: ValueBlock, grouping: Grouping) -> float:
    """Return about how many bits a mask takes with a grouping."""
    total = 0.0
    for span, members in _groups(block, grouping):
        flags = mask[span] if members is None else mask[span][members]
        total += flags_cost(int(flags.sum()), len(flags))
    return total


def keep_probabilities(scores: Tensor) -> Probabilities:
    """Return the probability with which each weight is kept: the sigmoid of its score [n], in float64."""
    return torch.sigmoid(scores.double()).numpy()
