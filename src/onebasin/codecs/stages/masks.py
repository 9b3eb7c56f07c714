"""Stages that end a chain in masks: parameters are scores, and the receiver has which weights a drawn mask keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from onebasin.codecs.context import Scene
from onebasin.codecs.stage import Decode, Encode
from onebasin.codecs.stages.quantisers import End
from onebasin.codecs.value_block import Block, Flags
from onebasin.wire.entropy import Chances, SymbolReader, SymbolWriter, flags_cost, likely_flags_cost


class Drawn(End):
    """Makes masks of scores: what is received are zeros and ones."""


class Mask(Drawn):
    """A mask drawn from the chances that scores stand for, one of its bits a value; at most 1 bit each.

    Isik et al.: Sparse Random Networks for Communication-Efficient Federated Learning. ICLR 2023 (arXiv 2209.15328).
    Told by how many of a tensor's bits are set, or by the chances of the model that both sides hold, whichever is
    shorter.
    """

    name: ClassVar[str] = "mask"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        goal = values if scene.reference is None else values + scene.reference
        mask = torch.rand(len(goal), generator=scene.generator(self.name), dtype=torch.float64).numpy() < chances(goal)
        known = None if scene.reference is None else chances(scene.reference)
        by_chance = known is not None and likely_flags_cost(mask, known) < _counted(mask, block)
        out.integer(by_chance, 2)
        if by_chance and known is not None:
            out.likely_flags(mask, known)
        else:
            for begin, end in block.bounds:
                out.flags(mask[begin:end])
        return torch.from_numpy(mask).float()

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        if source.integer(2) and scene.reference is not None:
            mask = source.likely_flags(chances(scene.reference))
        else:
            parts = [source.flags(size) for size in block.sizes]
            mask = np.concatenate([np.zeros(0, dtype=np.bool_), *parts])
        return torch.from_numpy(mask).float()


class Threshold(Drawn):
    """Which scores are above 0, at most 1 bit each: told apart by whether they are in the model that both sides hold.

    Mallya, Davis, Lazebnik: Piggyback. ECCV 2018 (arXiv 1801.06519).
    """

    name: ClassVar[str] = "threshold"

    def encode(self, values: Tensor, block: Block, out: SymbolWriter, scene: Scene, rest: Encode) -> Tensor:
        goal = values if scene.reference is None else values + scene.reference
        mask = (goal > 0).numpy()
        for places in _parts_alike(block, scene):
            out.flags(mask[places])
        return torch.from_numpy(mask).float()

    def decode(self, block: Block, source: SymbolReader, scene: Scene, rest: Decode) -> Tensor:
        mask = np.zeros(block.numel, dtype=np.bool_)
        for places in _parts_alike(block, scene):
            mask[places] = source.flags(len(places))
        return torch.from_numpy(mask).float()


def _parts_alike(block: Block, scene: Scene) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """The places of each tensor's scores that are above 0 in the model that both sides hold, then of its others."""
    known = np.ones(block.numel, dtype=np.bool_) if scene.reference is None else (scene.reference > 0).numpy()
    for begin, end in block.bounds:
        for kept in (True, False):
            yield begin + np.flatnonzero(known[begin:end] == kept)


def chances(scores: Tensor) -> Chances:
    """Return the chance that scores give to each of their weights to be kept."""
    return torch.sigmoid(scores.double()).numpy()


def _counted(mask: Flags, block: Block) -> float:
    return sum(flags_cost(int(mask[begin:end].sum()), end - begin) for begin, end in block.bounds)
